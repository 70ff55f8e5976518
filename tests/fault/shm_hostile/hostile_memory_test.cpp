// Peers that write what they like into the memory they share with us, from either side of a link: by the case, then
// every word of the control block in turn, then anything anywhere at any time from a process of its own
// (storm_test.cpp). Whatever stands there, our end reads inside the ring, comes to an end, and nobody else notices.
#include <cstddef>
#include <map>
#include <memory>
#include <random>

#include "shm_hostile/peers.h"

namespace cdmf::ipc::shm::hostile {
namespace {

struct Mode {
  const char* trust;
  const char* wait;
};
constexpr Mode kModes[] = {{"cooperative", "adaptive"}, {"cooperative", "futex"}, {"cooperative", "spin"},
                           {"hostile", "adaptive"},     {"hostile", "futex"},     {"hostile", "spin"}};

Options options_of(const Mode& mode) {
  return {{"trust", mode.trust},
          {"wait", mode.wait},
          {"ring_buffer_capacity", std::to_string(kPlan.ring_capacity)},
          {"slot_size", std::to_string(kPlan.slot_size)}};
}

/// A link of ours whose other end is in our hands.
class Scene {
 public:
  virtual ~Scene() = default;
  virtual DriverUnderTest& ours() = 0;
  virtual cdmf_peer peer() const = 0;
  virtual Segment& segment() = 0;
  virtual RecordRingMemory to_us() = 0;    // The hostile peer is its producer.
  virtual RecordRingMemory from_us() = 0;  // It is its consumer.
};

class ClientScene final : public Scene {
 public:
  explicit ClientScene(GoodPair& pair) : pair_(pair), client_(pair.endpoint) {
    EXPECT_TRUE(client_.shake_hands(true)) << client_.text.message;
    peer_ = pair.server.next_peer();
  }
  ~ClientScene() override {
    shutdown(client_.fd(), SHUT_RDWR);
    // Its end, if it was not seen yet.
    while (pair_.server.send(peer_, "x") != CDMF_NOT_CONNECTED) {
      if (pair_.server.next().kind == testing::kNothing) return;
    }
  }
  DriverUnderTest& ours() override { return pair_.server; }
  cdmf_peer peer() const override { return peer_; }
  Segment& segment() override { return client_.handshake.segment; }
  RecordRingMemory to_us() override { return segment().tx(); }
  RecordRingMemory from_us() override { return segment().rx(); }

 private:
  GoodPair& pair_;
  RawClient client_;
  cdmf_peer peer_ = CDMF_NO_PEER;
};

class ServerScene final : public Scene {
 public:
  explicit ServerScene(const Options& options)
      : server_([this](int socket) {
          if (!hear_hello(socket)) return;
          offer_.welcome.may_sleep = 1;
          offer_.say_to(socket);
          until_hung_up(socket);
        }),
        client_(CDMF_ROLE_CLIENT, server_.endpoint, options) {
    EXPECT_EQ(client_.open(), CDMF_OK) << client_.error.message;
    EXPECT_EQ(client_.attach(), CDMF_OK) << client_.error.message;
    EXPECT_EQ(client_.next().kind, kConnected);
  }
  ~ServerScene() override { client_.close(); }
  DriverUnderTest& ours() override { return client_; }
  cdmf_peer peer() const override { return client_.peer; }
  Segment& segment() override { return offer_.segment; }
  RecordRingMemory to_us() override { return segment().rx(); }
  RecordRingMemory from_us() override { return segment().tx(); }

 private:
  Offer offer_;
  RawServer server_;
  DriverUnderTest client_;
};

/// Written as a peer would: whole words, without a lock.
template <typename Word>
void scribble(void* at, Word value) {
  std::atomic_ref<Word>(*static_cast<Word*>(at)).store(value);
  ++counts().writes;
}
std::uint32_t load(const void* at) {
  return std::atomic_ref<std::uint32_t>(*static_cast<std::uint32_t*>(const_cast<void*>(at))).load();
}

/// Sends to the hostile peer until that fails, at most so often.
cdmf_status send_until_it_fails(Scene& scene, int times = 100) {
  cdmf_status status = CDMF_OK;
  for (int i = 0; i < times && status == CDMF_OK; ++i) {
    status = scene.ours().send(scene.peer(), std::string(1000, 's'));
  }
  return status;
}
bool put(RecordProducer& producer, const std::string& content, std::uint32_t checksum) {
  if (producer.claim(content.size()) != ClaimOutcome::claimed) return false;
  std::memcpy(producer.payload().data(), content.data(), content.size());
  producer.commit(content.size(), 0, checksum);
  return producer.flush();
}
bool put(RecordProducer& producer, const std::string& content) {
  return put(producer, content, crc32_ieee(content.data(), content.size()));
}

enum class Fate { ends, lives };
struct Case {
  const char* what;
  Fate fate;
  std::function<void(Scene&)> act;
};

void write_first_word(Scene& scene, std::uint32_t word) { scribble(scene.to_us().bytes, word); }

/// The next record's place after a few good records.
std::byte* after_good_records(Scene& scene, std::size_t lines) {
  RecordProducer producer(scene.to_us());
  for (std::size_t i = 0; i < lines; ++i) EXPECT_TRUE(put(producer, "good"));
  for (std::size_t i = 0; i < lines; ++i) EXPECT_EQ(scene.ours().next().content, "good");
  return scene.to_us().bytes + lines * kLineBytes;
}

const Case kCases[] = {
    // What is to be read.
    {"a commit word of another lap", Fate::ends, [](Scene& s) { write_first_word(s, commit_word(9, 64)); }},
    {"a commit word of the next lap", Fate::ends, [](Scene& s) { write_first_word(s, commit_word(2, 64)); }},
    {"a commit word of the last stamp", Fate::ends, [](Scene& s) { write_first_word(s, commit_word(15, 64)); }},
    {"a commit word without a stamp", Fate::ends, [](Scene& s) { write_first_word(s, 64); }},
    {"a record of size 0", Fate::ends, [](Scene& s) { write_first_word(s, commit_word(1, 0)); }},
    {"a record of size 2", Fate::ends, [](Scene& s) { write_first_word(s, commit_word(1, 2)); }},
    {"a record smaller than its envelope", Fate::ends, [](Scene& s) { write_first_word(s, commit_word(1, 15)); }},
    {"a record of half a ring and a byte", Fate::ends,
     [](Scene& s) { write_first_word(s, commit_word(1, static_cast<std::uint32_t>(kPlan.ring_bytes() / 2 + 1))); }},
    {"a record of 256 MiB", Fate::ends, [](Scene& s) { write_first_word(s, commit_word(1, kSizeMask)); }},
    {"all ones", Fate::ends, [](Scene& s) { write_first_word(s, UINT32_MAX); }},
    {"padding of a whole ring", Fate::ends, [](Scene& s) { write_first_word(s, commit_word(1, kPaddingSize)); }},
    {"padding, and padding again", Fate::ends,
     [](Scene& s) {
       std::byte* const next = after_good_records(s, 3);
       scribble(s.to_us().bytes, commit_word(2, kPaddingSize));
       scribble(next, commit_word(1, kPaddingSize));
     }},
    {"a record over the end of the ring", Fate::ends,
     [](Scene& s) {
       std::byte* const last = after_good_records(s, kPlan.ring_bytes() / kLineBytes - 1);
       scribble(last, commit_word(1, 65));
     }},
    {"a frame of 0 bytes", Fate::ends, [](Scene& s) { write_first_word(s, commit_word(1, kEnvelopeBytes)); }},
    {"a frame one byte larger than agreed", Fate::ends,
     [](Scene& s) {
       RecordProducer producer(s.to_us());
       put(producer, std::string(kFrameMax + 1, 'f'));
     }},
    {"a checksum that does not match", Fate::lives,
     [](Scene& s) {
       RecordProducer producer(s.to_us());
       EXPECT_TRUE(put(producer, "broken", 0xBADC0DE));
       EXPECT_TRUE(put(producer, "whole"));
       EXPECT_EQ(s.ours().next().content, "whole");
     }},
    {"more broken checksums than a burst has views", Fate::lives,
     [](Scene& s) {
       RecordProducer producer(s.to_us());
       for (int i = 0; i < 60; ++i) EXPECT_TRUE(put(producer, "broken", 0xBADC0DE));
       EXPECT_TRUE(put(producer, "whole"));
       EXPECT_EQ(s.ours().next().content, "whole");
     }},
    {"a broken checksum after each whole one", Fate::lives,
     [](Scene& s) {
       RecordProducer producer(s.to_us());
       for (int i = 0; i < 300; ++i) {
         EXPECT_TRUE(put(producer, "broken", 0xBADC0DE));
         EXPECT_TRUE(put(producer, "whole"));
         EXPECT_EQ(s.ours().next().content, "whole");
       }
     }},
    {"nothing but broken checksums", Fate::ends,
     [](Scene& s) {
       RecordProducer producer(s.to_us());
       for (int i = 0; i < 65; ++i) EXPECT_TRUE(put(producer, "broken", 0xBADC0DE));
     }},
    {"more broken checksums than whole ones", Fate::ends,
     [](Scene& s) {
       RecordProducer producer(s.to_us());
       for (int i = 0; i < 40; ++i) {
         EXPECT_TRUE(put(producer, "whole"));
         for (int k = 0; k < 3; ++k) EXPECT_TRUE(put(producer, "broken", 0xBADC0DE));
       }
     }},
    {"contents changed after the flush", Fate::lives,
     [](Scene& s) {
       RecordProducer producer(s.to_us());
       EXPECT_TRUE(put(producer, std::string(500, 'a')));
       scribble(s.to_us().bytes + kEnvelopeBytes + 100, UINT32_MAX);
       EXPECT_TRUE(s.ours().take().empty());
     }},
    {"a timestamp of all ones", Fate::lives,
     [](Scene& s) {
       RecordProducer producer(s.to_us());
       EXPECT_EQ(producer.claim(1), ClaimOutcome::claimed);
       producer.payload()[0] = std::byte{'t'};
       producer.commit(1, UINT64_MAX, crc32_ieee("t", 1));
       producer.flush();
       const Message message = s.ours().next();
       EXPECT_EQ(message.content, "t");
       EXPECT_EQ(message.timestamp_us, UINT64_MAX);
     }},
    {"a tail of its own that lies", Fate::lives,
     [](Scene& s) {
       scribble(&s.to_us().control->tail, UINT64_MAX);
       scribble(&s.to_us().control->records_flushed, UINT64_MAX);
       RecordProducer producer(s.to_us());
       EXPECT_TRUE(put(producer, "read all the same"));
       EXPECT_EQ(s.ours().next().content, "read all the same");
     }},
    {"our head moved", Fate::lives,
     [](Scene& s) {
       after_good_records(s, 5);
       scribble(&s.to_us().control->head, UINT64_MAX - 63);
       EXPECT_TRUE(s.ours().take().empty());
     }},
    {"room wanted without end", Fate::lives,
     [](Scene& s) {
       RecordProducer producer(s.to_us());
       for (std::uint32_t i = 0; i < 100; ++i) {
         scribble(&s.to_us().control->space_wanted, i % 2 == 0 ? 1u : UINT32_MAX);
         EXPECT_TRUE(put(producer, "more"));
         EXPECT_EQ(s.ours().next().content, "more");
         EXPECT_TRUE(s.ours().take().empty());
       }
     }},
    {"our announcement of sleep taken back", Fate::lives,
     [](Scene& s) {
       for (const std::uint32_t word : {0u, 1u, 2u, 3u, UINT32_MAX}) {
         (void)s.ours()->arm(s.ours().self());
         scribble(&s.to_us().control->armed, word);
         RecordProducer producer(s.to_us());
         EXPECT_EQ(s.ours()->await_messages(s.ours().self(), in_ms(1)), CDMF_TIMEOUT);
       }
     }},
    // What is to be written.
    {"a head beyond what was written", Fate::ends,
     [](Scene& s) {
       scribble(&s.from_us().control->head, std::uint64_t{1} << 40);
       EXPECT_EQ(send_until_it_fails(s), CDMF_PROTOCOL_ERROR);
     }},
    {"a head one line beyond", Fate::ends,
     [](Scene& s) {
       std::uint64_t written = 0;
       while (s.ours().send(s.peer(), std::string(1000, 's')) == CDMF_OK) written += 1024;
       scribble(&s.from_us().control->head, written + 64);
       EXPECT_EQ(send_until_it_fails(s), CDMF_PROTOCOL_ERROR);
     }},
    {"a head of all ones", Fate::ends,
     [](Scene& s) {
       scribble(&s.from_us().control->head, UINT64_MAX);
       EXPECT_EQ(send_until_it_fails(s), CDMF_PROTOCOL_ERROR);
     }},
    {"a head in the middle of a line", Fate::ends,
     [](Scene& s) {
       EXPECT_EQ(send_until_it_fails(s), CDMF_BUFFER_FULL);
       scribble(&s.from_us().control->head, std::uint64_t{1025});
       EXPECT_EQ(send_until_it_fails(s), CDMF_PROTOCOL_ERROR);
     }},
    {"a head that goes back", Fate::ends,
     [](Scene& s) {
       EXPECT_EQ(send_until_it_fails(s), CDMF_BUFFER_FULL);
       scribble(&s.from_us().control->head, std::uint64_t{8192});
       EXPECT_EQ(send_until_it_fails(s), CDMF_BUFFER_FULL);
       scribble(&s.from_us().control->head, std::uint64_t{4096});
       EXPECT_EQ(send_until_it_fails(s), CDMF_PROTOCOL_ERROR);
     }},
    {"a tail that says there is room", Fate::ends,
     [](Scene& s) {
       EXPECT_EQ(send_until_it_fails(s), CDMF_BUFFER_FULL);
       scribble(&s.from_us().control->tail, std::uint64_t{0});
       EXPECT_EQ(s.ours()->await_space(s.ours().self(), s.peer(), 1000, in_ms(kPatienceMs)), CDMF_OK);
       EXPECT_EQ(send_until_it_fails(s), CDMF_PROTOCOL_ERROR);
     }},
    {"a tail of all ones", Fate::ends,
     [](Scene& s) {
       EXPECT_EQ(send_until_it_fails(s), CDMF_BUFFER_FULL);
       scribble(&s.from_us().control->tail, UINT64_MAX);
       EXPECT_EQ(send_until_it_fails(s), CDMF_PROTOCOL_ERROR);
     }},
    {"records counted wrongly", Fate::lives,
     [](Scene& s) {
       EXPECT_EQ(s.ours().send(s.peer(), "one"), CDMF_OK);
       scribble(&s.from_us().control->records_flushed, UINT64_MAX);
       EXPECT_EQ(s.ours().send(s.peer(), "two"), CDMF_OK);
       RecordConsumer consumer(s.from_us());
       RecordView view;
       EXPECT_TRUE(consumer.receive(view));
       EXPECT_TRUE(consumer.receive(view));
     }},
    {"a bell for each message", Fate::lives,
     [](Scene& s) {
       for (const std::uint32_t word : {1u, 2u, 3u, UINT32_MAX}) {
         for (int i = 0; i < 5; ++i) {
           scribble(&s.from_us().control->armed, word);
           EXPECT_EQ(s.ours().send(s.peer(), "ding"), CDMF_OK);
         }
       }
     }},
    {"our wish for room rewritten", Fate::lives,
     [](Scene& s) {
       EXPECT_EQ(send_until_it_fails(s), CDMF_BUFFER_FULL);
       scribble(&s.from_us().control->space_wanted, UINT32_MAX);
       EXPECT_EQ(s.ours()->await_space(s.ours().self(), s.peer(), 1000, in_ms(1)), CDMF_TIMEOUT);
     }},
    {"what we wrote, overwritten", Fate::lives,
     [](Scene& s) {
       EXPECT_EQ(s.ours().send(s.peer(), std::string(1000, 's')), CDMF_OK);
       for (std::size_t at = 0; at < kPlan.ring_bytes(); at += 4) scribble(s.from_us().bytes + at, UINT32_MAX);
       EXPECT_EQ(send_until_it_fails(s, 5), CDMF_OK);
     }},
    // What is for observers.
    {"a header of zeros", Fate::lives,
     [](Scene& s) {
       for (std::size_t at = 0; at < sizeof(SegmentHeader); at += 4) {
         scribble(reinterpret_cast<std::byte*>(&s.segment().header()) + at, 0u);
       }
       EXPECT_EQ(s.ours().send(s.peer(), "still"), CDMF_OK);
     }},
    {"the counts of ends and the words about both sides", Fate::lives,
     [](Scene& s) {
       for (std::size_t at = offsetof(SegmentControl, server); at < offsetof(SegmentControl, tx); at += 4) {
         scribble(reinterpret_cast<std::byte*>(&s.segment().control()) + at, UINT32_MAX);
       }
       EXPECT_EQ(s.ours().send(s.peer(), "still"), CDMF_OK);
     }},
};

class HostileMemory : public ::testing::TestWithParam<Mode> {
 protected:
  std::unique_ptr<Scene> scene(bool hostile_server) {
    if (hostile_server) return std::make_unique<ServerScene>(options_of(GetParam()));
    return std::make_unique<ClientScene>(pair);
  }
  void count_case() {
    const bool first = GetParam().trust == kModes[0].trust && GetParam().wait == kModes[0].wait;
    ++(first ? counts().cases : counts().runs);
  }

  Log log;
  GoodPair pair{options_of(GetParam()), log.host()};
};

TEST_P(HostileMemory, WhatCannotBeEndsItsLinkAndNoOther) {
  for (const bool hostile_server : {false, true}) {
    for (const Case& one : kCases) {
      SCOPED_TRACE(std::string(hostile_server ? "server: " : "client: ") + one.what);
      const auto set = scene(hostile_server);
      const std::size_t lines = log.size();
      one.act(*set);
      if (one.fate == Fate::ends) {
        Message end = set->ours().next();
        while (end.kind == CDMF_VIEW_MESSAGE) end = set->ours().next();
        EXPECT_EQ(end.kind, kDisconnected);
        EXPECT_EQ(end.peer, set->peer());
        EXPECT_EQ(end.reason, CDMF_PROTOCOL_ERROR);
        EXPECT_EQ(set->ours().send(set->peer(), "x"), CDMF_NOT_CONNECTED);
        if (!hostile_server) {
          EXPECT_GT(log.size(), lines) << "nothing was logged";
        }
        ++counts().links_ended;
      } else {
        EXPECT_TRUE(set->ours().take().empty());
        EXPECT_NE(set->ours().send(set->peer(), "x"), CDMF_NOT_CONNECTED);
      }
      pair.expect_service();
      count_case();
    }
  }
}

/// One turn of both directions, as a peer that behaves would have it, whatever was scribbled before. Ours sends until
/// the ring is full, and thus looks at every word there is. True: the link lives.
bool exchange(Scene& scene, RecordProducer& producer, RecordConsumer& consumer, bool with_waits) {
  DriverUnderTest& ours = scene.ours();
  put(producer, "from the peer");
  for (int turn = 0; turn < 3; ++turn) {
    for (const Message& message : ours.take()) {
      if (message.kind == kDisconnected) {
        EXPECT_EQ(message.reason, CDMF_PROTOCOL_ERROR);
        return false;
      }
      EXPECT_EQ(message.content, "from the peer");
    }
  }
  const cdmf_status status = send_until_it_fails(scene);
  if (status != CDMF_BUFFER_FULL) {
    EXPECT_EQ(status, CDMF_PROTOCOL_ERROR);
    EXPECT_EQ(ours.next().kind, kDisconnected);
    return false;
  }
  if (with_waits) {
    const cdmf_status waited = ours->await_space(ours.self(), scene.peer(), 1000, monotonic_now_ns() + 1000);
    EXPECT_TRUE(waited == CDMF_OK || waited == CDMF_TIMEOUT) << waited;
    (void)ours->await_messages(ours.self(), monotonic_now_ns() + 1000);
  }
  RecordView view;
  while (consumer.receive(view)) consumer.release(view);
  return true;
}

TEST_P(HostileMemory, EveryWordOfTheControlBlockMayHoldAnythingWhileMessagesFlow) {
  std::mt19937 random(2026);
  for (const bool hostile_server : {false, true}) {
    std::unique_ptr<Scene> set;
    std::unique_ptr<RecordProducer> producer;
    std::unique_ptr<RecordConsumer> consumer;
    std::uint64_t lives = 0;
    for (std::size_t word = 0; word < sizeof(SegmentControl) / 4; ++word) {
      for (int value = 0; value < 8; ++value) {
        if (!set) {
          set = scene(hostile_server);
          producer = std::make_unique<RecordProducer>(set->to_us());
          consumer = std::make_unique<RecordConsumer>(set->from_us());
          for (int i = 0; i < 5; ++i) ASSERT_TRUE(exchange(*set, *producer, *consumer, false));
          ++lives;
        }
        SCOPED_TRACE(std::string(hostile_server ? "server" : "client") + ", offset " + std::to_string(word * 4) +
                     ", value " + std::to_string(value));
        std::byte* const at = reinterpret_cast<std::byte*>(&set->segment().control()) + word * 4;
        const std::uint32_t was = load(at);
        const std::uint32_t wild[] = {0,        1,         2,          was + 64,
                                      was - 64, INT32_MAX, UINT32_MAX, static_cast<std::uint32_t>(random())};
        scribble(at, wild[value]);
        bool alive = true;
        for (int turn = 0; turn < 2 && alive; ++turn)
          alive = exchange(*set, *producer, *consumer, value == 7 && turn == 0);
        if (!alive) {
          ++counts().links_ended;
          set.reset();
        }
        if (value == 7) pair.expect_service();
      }
    }
    EXPECT_GT(lives, 1u) << "no scribble was ever noticed";
  }
  count_case();
}

TEST_P(HostileMemory, EveryWordOfARingMayHoldAnythingWhileMessagesFlow) {
  std::mt19937 random(7);
  for (const bool hostile_server : {false, true}) {
    std::unique_ptr<Scene> set;
    std::unique_ptr<RecordProducer> producer;
    std::unique_ptr<RecordConsumer> consumer;
    for (int step = 0; step < 3000; ++step) {
      if (!set) {
        set = scene(hostile_server);
        producer = std::make_unique<RecordProducer>(set->to_us());
        consumer = std::make_unique<RecordConsumer>(set->from_us());
      }
      SCOPED_TRACE(step);
      // Near the place that is read next, mostly: elsewhere nobody would look.
      const std::uint64_t next = set->to_us().control->tail.load() % kPlan.ring_bytes();
      const std::uint64_t near = (next + random() % 4 * kLineBytes + random() % 4 * 4) % kPlan.ring_bytes();
      std::byte* const ring = random() % 4 == 0 ? set->from_us().bytes : set->to_us().bytes;
      const std::uint64_t at = random() % 2 == 0 ? near : random() % kPlan.ring_bytes() / 4 * 4;
      const std::uint32_t stamp = static_cast<std::uint32_t>(random() % 16);
      const std::uint32_t sizes[] = {0, 1, 15, 16, 17, 64, 65, 4096, 16384, 16385, kSizeMask};
      scribble(ring + at, random() % 2 == 0 ? static_cast<std::uint32_t>(random())
                                            : commit_word(stamp, sizes[random() % std::size(sizes)]));
      std::vector<Message> got;
      bool alive = true;
      put(*producer, "from the peer");
      for (int turn = 0; turn < 2 && alive; ++turn) {
        for (const Message& message : set->ours().take()) alive = alive && message.kind != kDisconnected;
      }
      if (alive && set->ours().send(set->peer(), "to the peer") == CDMF_PROTOCOL_ERROR) {
        EXPECT_EQ(set->ours().next().kind, kDisconnected);
        alive = false;
      }
      RecordView view;
      if (alive && consumer->receive(view)) consumer->release(view);
      if (!alive || random() % 200 == 0) {
        counts().links_ended += alive ? 0 : 1;
        set.reset();
      }
      if (step % 50 == 0) pair.expect_service();
    }
  }
  count_case();
}

TEST_P(HostileMemory, RecordsWhereNothingWasFreedEndTheLink) {
  if (std::string(GetParam().trust) == "hostile") GTEST_SKIP() << "a held copy keeps nothing of the ring";
  for (const bool hostile_server : {false, true}) {
    SCOPED_TRACE(hostile_server ? "server" : "client");
    const auto set = scene(hostile_server);
    DriverUnderTest& ours = set->ours();
    RecordProducer producer(set->to_us());
    const std::size_t lines = kPlan.ring_bytes() / kLineBytes;
    for (std::size_t i = 0; i < lines; ++i) ASSERT_TRUE(put(producer, "once"));
    cdmf_view first;
    ASSERT_EQ(ours->receive_burst(ours.self(), &first, 1), 1u);
    std::uint64_t held = 0;
    ASSERT_EQ(ours->hold(ours.self(), first.peer, first.token, &held), CDMF_OK);
    ours->release_burst(ours.self());
    for (std::size_t i = 1; i < lines; ++i) ASSERT_EQ(ours.next().content, "once");
    write_first_word(*set, commit_word(2, kEnvelopeBytes + 4));
    const Message end = ours.next();
    EXPECT_EQ(end.kind, kDisconnected);
    EXPECT_EQ(end.reason, CDMF_PROTOCOL_ERROR);
    EXPECT_EQ(std::memcmp(first.frame, "once", 4), 0) << "what is held stays readable";
    ours->unhold(ours.self(), held);
    pair.expect_service();
    count_case();
  }
}

TEST_P(HostileMemory, APeerThatWritesOnAfterItsGoodbyeHasAnEnd) {
  RawClient client(pair.endpoint);
  ASSERT_TRUE(client.shake_hands()) << client.text.message;
  pair.server.next_peer();
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    RecordProducer producer(client.handshake.segment.tx());
    while (!stop) put(producer, "without end");
  });
  EXPECT_TRUE(say(client.fd(), Notice{}));
  Message message;
  do {
    message = pair.server.next();
  } while (message.kind == CDMF_VIEW_MESSAGE);
  EXPECT_EQ(message.kind, kDisconnected);
  stop = true;
  writer.join();
  pair.expect_service();
  count_case();
}

TEST_P(HostileMemory, ADiscardedMessageOfOnePeerGivesBackNothingOfAnother) {
  RawClient client(pair.endpoint);
  ASSERT_TRUE(client.shake_hands()) << client.text.message;
  pair.server.next_peer();
  RecordProducer producer(client.handshake.segment.tx());
  const std::string content(4000, 'x');
  for (int round = 0; round < 4; ++round) {  // The link that is looked at first changes.
    ASSERT_TRUE(put(producer, "broken", 0xBADC0DE));
    std::size_t sent = 0;
    while (pair.client.send(pair.client.peer, content) == CDMF_OK) ++sent;
    std::vector<cdmf_view> views(4 * sent);
    ASSERT_EQ(pair.server->receive_burst(pair.server.self(), views.data(), views.size()), sent);
    EXPECT_EQ(pair.client.send(pair.client.peer, content), CDMF_BUFFER_FULL) << "in round " << round;
    pair.server->release_burst(pair.server.self());
    for (int looks = 0; looks < round; ++looks) EXPECT_TRUE(pair.server.take().empty());
  }
  shutdown(client.fd(), SHUT_RDWR);
  const Message end = pair.server.next();
  EXPECT_EQ(end.kind, kDisconnected);
  EXPECT_EQ(end.lost, 4u);
  pair.expect_service();
  count_case();
}

INSTANTIATE_TEST_SUITE_P(All, HostileMemory, ::testing::ValuesIn(kModes),
                         [](const auto& mode) { return std::string(mode.param.trust) + "_" + mode.param.wait; });

}  // namespace
}  // namespace cdmf::ipc::shm::hostile
