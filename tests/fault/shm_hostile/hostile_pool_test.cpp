// Pools (`ring_type: mpmc`). Their members trust each other, as the specification has it: who is in may break the pool,
// for all of them. But whatever stands at a pool's name, and whatever is written there, joining it ends with a typed
// error or a membership, in bounded time; and a pool that was broken tells each member so.
#include <sys/stat.h>

#include <filesystem>
#include <thread>

#include "pool/pool_layout.h"
#include "segment/named_object.h"
#include "shm_hostile/peers.h"

namespace cdmf::ipc::shm::hostile {
namespace {

using test::Footprint;

const Options kPool{{"ring_type", "mpmc"}, {"ring_buffer_capacity", "64"}};
constexpr std::uint64_t kLargest = 1000;  // max_message_size
constexpr std::uint64_t kFrame = kLargest + CDMF_FRAME_OVERHEAD_MAX;

PoolPlan good_plan() {
  PoolPlan plan;
  plan.ring_capacity = 64;
  plan.frame_size_max = kFrame;
  plan.slot_size = static_cast<std::uint32_t>(pool_slot_size_for(kFrame));
  return plan;
}

/// A pool made by hand, held present by somebody who is no member.
struct PoolByHand {
  explicit PoolByHand(
      const std::function<void(PoolHeader&)>& spoil = [](PoolHeader&) {}, std::uint64_t size = 0)
      : endpoint(unique_endpoint()), plan(good_plan()) {
    text.struct_size = sizeof text;
    EXPECT_EQ(NamedObject::create(
                  endpoint + kPoolSuffix, size == 0 ? plan.total_size() : size, {},
                  [&](std::byte* memory) {
                    lay_out_pool(memory, plan);
                    spoil(reinterpret_cast<PoolControl*>(memory)->header);
                  },
                  object, error),
              CDMF_OK)
        << text.message;
  }
  PoolMemory memory() const { return {object.memory(), plan}; }

  cdmf_error text{};
  ErrorText error{&text};
  const std::string endpoint;
  const PoolPlan plan;
  NamedObject object;
};

class PoolHostile : public ::testing::Test {
 protected:
  PoolHostile() {
    pair.expect_service();
    before = Footprint::now();
  }
  /// What a consumer and a producer get.
  void expect_refusal(const PoolByHand& pool, const char* what, cdmf_status status) {
    for (const cdmf_role role : {CDMF_ROLE_SERVER, CDMF_ROLE_CLIENT}) {
      DriverUnderTest member(role, pool.endpoint, kPool, kLargest);
      cdmf_status got = member.open();
      if (role == CDMF_ROLE_CLIENT && got == CDMF_OK) got = member.attach(100);
      EXPECT_EQ(got, status) << what << ", role " << role << ": " << member.error.message;
      EXPECT_NE(std::string(member.error.message).find(pool.endpoint), std::string::npos)
          << what << ": " << member.error.message;
    }
  }
  void expect_no_trace(const char* what) {
    pair.expect_service();
    EXPECT_TRUE(eventually([&] {
      const Footprint more = Footprint::now() - before;
      return more.descriptors <= 0 && more.threads <= 0 && more.shared_mappings <= 0;
    })) << "left behind by "
        << what << ": " << (Footprint::now() - before).text();
    ++counts().cases;
  }
  GoodPair pair;
  Footprint before;
};

TEST_F(PoolHostile, HeadersThatCannotBeAreRefused) {
  struct Case {
    const char* what;
    std::function<void(PoolHeader&)> spoil;
    cdmf_status status = CDMF_PROTOCOL_ERROR;
  };
  const Case cases[] = {
      {"another magic", [](PoolHeader& it) { it.magic = 0x12345678; }},
      {"a link's object", [](PoolHeader& it) { it.kind = 1; }},
      {"version 0", [](PoolHeader& it) { it.version = 0; }, CDMF_VERSION_MISMATCH},
      {"version 2^32 - 1", [](PoolHeader& it) { it.version = UINT32_MAX; }, CDMF_VERSION_MISMATCH},
      {"no bytes in all", [](PoolHeader& it) { it.total_size = 0; }},
      {"2^64 - 1 bytes in all", [](PoolHeader& it) { it.total_size = UINT64_MAX; }},
      {"no slots", [](PoolHeader& it) { it.ring_capacity = 0; }},
      {"65 slots", [](PoolHeader& it) { it.ring_capacity = 65; }},
      {"twice the slots", [](PoolHeader& it) { it.ring_capacity *= 2; }},
      {"half the slots", [](PoolHeader& it) { it.ring_capacity /= 2; }},
      {"2^31 slots", [](PoolHeader& it) { it.ring_capacity = 1u << 31; }},
      {"slots of no bytes", [](PoolHeader& it) { it.slot_size = 0; }},
      {"slots of 63 bytes", [](PoolHeader& it) { it.slot_size = 63; }},
      {"slots of 2^32 - 64 bytes", [](PoolHeader& it) { it.slot_size = UINT32_MAX - 63; }},
      {"one member at most", [](PoolHeader& it) { it.members_max = 1; }},
      {"2^32 - 1 members", [](PoolHeader& it) { it.members_max = UINT32_MAX; }},
      {"members over the header", [](PoolHeader& it) { it.members_offset = 0; }},
      {"members far away", [](PoolHeader& it) { it.members_offset = UINT64_MAX; }},
      {"a ring over the header", [](PoolHeader& it) { it.ring_offset = 0; }},
      {"a ring far away", [](PoolHeader& it) { it.ring_offset = UINT64_MAX - 64; }},
      {"frames of no bytes", [](PoolHeader& it) { it.frame_size_max = 0; }},
      {"frames larger than a slot", [](PoolHeader& it) { it.frame_size_max = it.slot_size; }},
      {"frames of 2^64 - 1 bytes", [](PoolHeader& it) { it.frame_size_max = UINT64_MAX; }},
      {"frames of 2^64 - 40 bytes", [](PoolHeader& it) { it.frame_size_max = UINT64_MAX - 39; }},
      {"a checksum that is none", [](PoolHeader& it) { it.checksum = 2; }},
      {"frames smaller than this member's", [](PoolHeader& it) { it.frame_size_max = CDMF_FRAME_OVERHEAD_MAX + 1; },
       CDMF_INVALID_CONFIG},
  };
  for (const Case& each : cases) {
    PoolByHand pool(each.spoil);
    if (each.status == CDMF_INVALID_CONFIG) {
      // A producer is told first that nobody is there.
      DriverUnderTest consumer(CDMF_ROLE_SERVER, pool.endpoint, kPool, kLargest);
      EXPECT_EQ(consumer.open(), each.status) << each.what << ": " << consumer.error.message;
    } else {
      expect_refusal(pool, each.what, each.status);
    }
  }
  for (const Case& each : cases) expect_no_trace(each.what);
}

TEST_F(PoolHostile, ObjectsOfAnotherSizeAreRefused) {
  const PoolPlan plan = good_plan();
  for (const std::uint64_t size :
       {std::uint64_t{kPoolRingOffset}, std::uint64_t{kPoolRingOffset} + 4096, plan.total_size() - 4096,
        plan.total_size() - 1, plan.total_size() + 1, plan.total_size() + 4096}) {
    PoolByHand pool([](PoolHeader&) {}, size);
    expect_refusal(pool, "another size", CDMF_PROTOCOL_ERROR);
    pool.object.close();
    expect_no_trace("another size");
  }
}

TEST_F(PoolHostile, StrangersAtTheNameAreRefusedAndLeftAlone) {
  struct Case {
    const char* what;
    std::function<void(const std::string& file)> sit;
    cdmf_status producer;
    cdmf_status consumer;
  };
  const auto file_of_size = [](off_t size) {
    return [size](const std::string& file) {
      const UniqueFd fd(open(file.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
      EXPECT_EQ(ftruncate(fd.get(), size), 0);
    };
  };
  const Case cases[] = {
      {"a folder", [](const std::string& file) { EXPECT_EQ(mkdir(file.c_str(), 0700), 0); }, CDMF_ENDPOINT_IN_USE,
       CDMF_ENDPOINT_IN_USE},
      {"a link", [](const std::string& file) { EXPECT_EQ(symlink("/nowhere", file.c_str()), 0); }, CDMF_ENDPOINT_IN_USE,
       CDMF_ENDPOINT_IN_USE},
      {"a pipe", [](const std::string& file) { EXPECT_EQ(mkfifo(file.c_str(), 0600), 0); }, CDMF_ENDPOINT_IN_USE,
       CDMF_ENDPOINT_IN_USE},
      {"an empty file", file_of_size(0), CDMF_PROTOCOL_ERROR, CDMF_PROTOCOL_ERROR},
      {"a file of zeros", file_of_size(1 << 20), CDMF_PROTOCOL_ERROR, CDMF_PROTOCOL_ERROR},
  };
  for (const Case& each : cases) {
    const std::string endpoint = unique_endpoint();
    const std::string file = "/dev/shm" + endpoint + kPoolSuffix;
    each.sit(file);
    {
      DriverUnderTest consumer(CDMF_ROLE_SERVER, endpoint, kPool, kLargest);
      EXPECT_EQ(consumer.open(), each.consumer) << each.what << ": " << consumer.error.message;
      DriverUnderTest producer(CDMF_ROLE_CLIENT, endpoint, kPool, kLargest);
      ASSERT_EQ(producer.open(), CDMF_OK);
      EXPECT_EQ(producer.attach(100), each.producer) << each.what << ": " << producer.error.message;
    }
    EXPECT_TRUE(std::filesystem::exists(std::filesystem::symlink_status(file))) << each.what;
    std::filesystem::remove(file);
    expect_no_trace(each.what);
  }
}

/// What can stand in a pool whose header is good, when somebody comes.
TEST_F(PoolHostile, AnyWordsOfAPoolLetAMemberInOrNot) {
  struct Case {
    const char* what;
    std::function<void(PoolByHand&)> spoil;
    cdmf_status status;
  };
  const auto lines = [](auto change) {
    return [change](PoolByHand& it) {
      for (std::uint32_t i = 0; i < kPoolMembersMax; ++i) change(it, i);
    };
  };
  const auto line = [](PoolByHand& it, std::uint32_t i) -> MpmcParticipant& {
    return it.memory().ring().participant(i);
  };
  const Case cases[] = {
      {"broken already", [](PoolByHand& it) { it.memory().control().broken = UINT32_MAX; }, CDMF_CONNECTION_FAILED},
      {"changes without end", [](PoolByHand& it) { it.memory().control().changes = UINT32_MAX; }, CDMF_OK},
      {"every member asleep",
       [](PoolByHand& it) {
         for (auto& bits : it.memory().control().consumers.bits) bits = UINT64_MAX;
         for (auto& bits : it.memory().control().producers.bits) bits = UINT64_MAX;
         for (std::uint32_t i = 0; i < kPoolMembersMax; ++i) it.memory().member(i).receiver = kPoolRingOffset;
       },
       CDMF_OK},
      {"members of no role, no process", lines([](PoolByHand& it, std::uint32_t i) {
         it.memory().member(i).role = UINT32_MAX;
         it.memory().member(i).pid = INT32_MIN;
       }),
       CDMF_OK},
      {"every line used by the dead", lines([&](PoolByHand& it, std::uint32_t i) { line(it, i).state = UINT64_MAX; }),
       CDMF_OK},
      {"every line used by the living", lines([&](PoolByHand& it, std::uint32_t i) {
         line(it, i).state = 1;
         EXPECT_TRUE(it.object.try_lock(i));
       }),
       CDMF_RESOURCE_EXHAUSTED},
      {"every line free and locked", lines([](PoolByHand& it, std::uint32_t i) { (void)it.object.try_lock(i); }),
       CDMF_RESOURCE_EXHAUSTED},
      {"the dead announced what cannot be", lines([&](PoolByHand& it, std::uint32_t i) {
         line(it, i).state = 1;
         line(it, i).producing = UINT64_MAX;
         line(it, i).consuming = UINT64_MAX;
       }),
       CDMF_PROTOCOL_ERROR},
      {"the dead announced a whole batch far ahead", lines([&](PoolByHand& it, std::uint32_t i) {
         line(it, i).state = 1;
         line(it, i).producing = mpmc_announcement(std::uint64_t{1} << 50, kMpmcBatchMax);
       }),
       CDMF_PROTOCOL_ERROR},
      {"the dead keep every slot",
       [&](PoolByHand& it) {
         line(it, 0).state = 1;
         for (std::uint32_t i = 0; i < it.plan.ring_capacity; ++i) {
           it.memory().ring().slot(i).word = mpmc_word(0, MpmcSlotState::kept);
           it.memory().ring().slot(i).owner = 1;
         }
       },
       CDMF_OK},
      {"a head beyond the tail", [](PoolByHand& it) { it.memory().ring().head() = UINT64_MAX; }, CDMF_OK},
      {"a tail beyond the end of time", [](PoolByHand& it) { it.memory().ring().tail() = UINT64_MAX; }, CDMF_OK},
      {"slots of any words",
       [](PoolByHand& it) {
         it.memory().ring().tail() = 64;
         std::memset(it.object.memory() + kPoolRingOffset + sizeof(MpmcRecordControl) +
                         kPoolMembersMax * sizeof(MpmcParticipant),
                     0xFF, std::size_t{64} * it.plan.slot_size);
       },
       CDMF_OK},
      {"all ones behind the header",
       [](PoolByHand& it) {
         std::memset(it.object.memory() + sizeof(PoolHeader), 0xFF, it.object.size() - sizeof(PoolHeader));
       },
       CDMF_CONNECTION_FAILED},
  };
  for (const Case& each : cases) {
    PoolByHand pool;
    each.spoil(pool);
    {
      DriverUnderTest consumer(CDMF_ROLE_SERVER, pool.endpoint, kPool, kLargest);
      EXPECT_EQ(consumer.open(), each.status) << each.what << ": " << consumer.error.message;
      if (each.status == CDMF_OK) {
        // Whatever comes of it: what is received is a message, or an event; a fault is told.
        for (int turn = 0; turn < 200; ++turn) {
          for (const Message& message : consumer.take()) {
            EXPECT_TRUE(message.kind == kConnected || message.kind == kDisconnected) << each.what;
          }
        }
        DriverUnderTest producer(CDMF_ROLE_CLIENT, pool.endpoint, kPool, kLargest);
        EXPECT_EQ(producer.open(), CDMF_OK);
        const cdmf_status joined = producer.attach(100);
        EXPECT_TRUE(joined == CDMF_OK || joined == CDMF_CONNECTION_FAILED || joined == CDMF_PROTOCOL_ERROR)
            << each.what << ": " << producer.error.message;
        if (joined == CDMF_OK) {
          const cdmf_status sent = producer.send(producer.peer, "anybody?");
          EXPECT_TRUE(sent == CDMF_OK || sent == CDMF_BUFFER_FULL || sent == CDMF_PROTOCOL_ERROR) << each.what << sent;
        }
      }
    }
    pool.object.close();
    std::filesystem::remove("/dev/shm" + pool.endpoint + kPoolSuffix);
    expect_no_trace(each.what);
  }
}

}  // namespace
}  // namespace cdmf::ipc::shm::hostile
