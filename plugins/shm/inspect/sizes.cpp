#include "inspect/sizes.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <string>

#include "inspect/extension.h"
#include "ipc/frame.h"
#include "ipc/property.h"
#include "link.h"
#include "options.h"
#include "pool/pool_options.h"

namespace cdmf::ipc::shm {
namespace {

/// Bytes of the ring that one message of this payload takes, without a subject.
constexpr std::uint64_t record_bytes(std::uint64_t payload) {
  return whole_lines(kEnvelopeBytes + kFrameHeaderBytes + payload);
}

std::string ring_detail(const SegmentPlan& plan, std::uint64_t max_message_size) {
  return std::to_string(plan.ring_capacity) + " slots of " + std::to_string(plan.slot_size) +
         " bytes: " + std::to_string(plan.ring_bytes() / record_bytes(max_message_size)) + " of the largest messages";
}

class PartList {
 public:
  PartList(cdmf_size_part* parts, std::size_t room) : parts_(parts), room_(room) {}

  void add(std::uint16_t owner, std::uint64_t bytes, const char* name, const std::string& detail = {}) {
    if (count_ < room_) {
      cdmf_size_part& part = parts_[count_];
      part = {};
      part.struct_size = sizeof part;
      part.per = CDMF_SIZE_PER_CLIENT;
      part.owner = owner;
      part.bytes = bytes;
      std::snprintf(part.name, sizeof part.name, "%s", name);
      std::snprintf(part.detail, sizeof part.detail, "%s", detail.c_str());
    }
    ++count_;
  }
  /// For the endpoint, however many clients it has.
  void add_once(std::uint64_t bytes, const char* name, const std::string& detail = {}) {
    add(CDMF_SIZE_SHARED, bytes, name, detail);
    if (count_ <= room_) parts_[count_ - 1].per = CDMF_SIZE_PER_ENDPOINT;
  }
  std::size_t count() const noexcept { return count_; }

 private:
  cdmf_size_part* parts_;
  std::size_t room_;
  std::size_t count_ = 0;
};

void add_pool_parts(const PoolPlan& plan, std::uint64_t page_bytes, PartList& list) {
  const std::uint64_t members = kPoolMembersMax * sizeof(PoolMember);
  const std::uint64_t slots = std::uint64_t{plan.ring_capacity} * plan.slot_size;
  list.add_once(sizeof(PoolControl), "control block", "constants, and who sleeps");
  list.add_once(members, "members", std::to_string(kPoolMembersMax) + " lines");
  list.add_once(kPoolRingOffset - kPoolMembersOffset - members, "padding to a page");
  list.add_once(plan.total_size() - kPoolRingOffset - slots, "ring control",
                "positions, and what each member announces");
  list.add_once(
      slots, "ring",
      std::to_string(plan.ring_capacity) + " slots of " + std::to_string(plan.slot_size) + " bytes, a message each");
  const std::uint64_t rest = (page_bytes - plan.total_size() % page_bytes) % page_bytes;
  if (rest != 0) list.add_once(rest, "rest of the last page");
}

cdmf_status parts(const cdmf_config* config, cdmf_size_part* parts, std::size_t* count, cdmf_error* error) {
  return guarded_extension(error, [&] {
    const DriverConfig values(*config);
    const long page = sysconf(_SC_PAGESIZE);
    const std::uint64_t page_bytes = page > 0 ? static_cast<std::uint64_t>(page) : 4096;
    PartList list(parts, *count);
    if (static_cast<RingType>(values.number("ring_type")) == RingType::mpmc) {
      add_pool_parts(PoolOptions(values).plan, page_bytes, list);
      *count = list.count();
      return CDMF_OK;
    }
    const Options options{values};
    const SegmentPlan& plan = options.plan;
    const std::uint64_t total = plan.total_size();
    const std::string detail = ring_detail(plan, config->max_message_size);
    list.add(CDMF_SIZE_SHARED, sizeof(SegmentControl), "control block", "constants, and the positions of the rings");
    list.add(CDMF_SIZE_SHARED, kRingsOffset - sizeof(SegmentControl), "padding to a page");
    list.add(CDMF_SIZE_SHARED, plan.ring_bytes(), "TX ring", detail);
    if (plan.bidirectional) list.add(CDMF_SIZE_SHARED, plan.ring_bytes(), "RX ring", detail);
    const std::uint64_t rest = (page_bytes - total % page_bytes) % page_bytes;
    if (rest != 0) list.add(CDMF_SIZE_SHARED, rest, "rest of the last page");
    // A bit per line, kept by whoever writes a ring.
    const std::uint64_t bits = plan.ring_bytes() / kLineBytes / 8;
    const auto own = [&](bool sends) { return sizeof(Link) + (sends ? std::max<std::uint64_t>(bits, 8) : 0); };
    list.add(CDMF_SIZE_SERVER, own(plan.bidirectional), "link, in the server",
             "its state, and a bit per line it writes");
    list.add(CDMF_SIZE_CLIENT, own(true), "link, in the client", "its state, and a bit per line it writes");
    *count = list.count();
    return CDMF_OK;
  });
}

class Suggestion {
 public:
  explicit Suggestion(cdmf_size_suggestion& out) : out_(out) {
    out_ = {};
    out_.struct_size = sizeof out_;
  }
  void option(const char* name, const std::string& text) {
    cdmf_size_option& option = out_.options[out_.option_count++];
    std::snprintf(option.name, sizeof option.name, "%s", name);
    std::snprintf(option.text, sizeof option.text, "%s", text.c_str());
  }
  void note(const std::string& text) { std::snprintf(out_.note, sizeof out_.note, "%s", text.c_str()); }

 private:
  cdmf_size_suggestion& out_;
};

// The limits of the table.
constexpr std::uint64_t kSlotSizeMax = 1 << 20;
constexpr std::uint64_t kCapacityMin = 4;
constexpr std::uint64_t kSpinLatencyNs = 20'000;  // What the specification calls low latency (§8.1).

/// Where slots hold whole messages: there are as many as were wished.
cdmf_status suggest_pool(const cdmf_size_wish& wish, Suggestion& suggestion, ErrorText& text) {
  if (wish.capacity > kMpmcSlotCountMax) {
    return text.fail(CDMF_INVALID_ARGUMENT, 0, "shm: a pool has at most ", kMpmcSlotCountMax, " slots, not ",
                     wish.capacity);
  }
  const std::uint64_t slot = pool_slot_size_for(wish.message_size + CDMF_FRAME_OVERHEAD_MAX);
  if (slot > UINT32_MAX) {
    return text.fail(CDMF_INVALID_ARGUMENT, 0, "shm: messages of ", format_size(wish.message_size),
                     " do not fit into a slot of a pool");
  }
  suggestion.option("max_message_size", format_size(wish.message_size));
  suggestion.option("ring_type", "mpmc");
  suggestion.option("ring_buffer_capacity", std::to_string(std::max(kCapacityMin, wish.capacity)));
  if (wish.latency_ns != 0) suggestion.option("wait", wish.latency_ns < kSpinLatencyNs ? "spin" : "adaptive");
  suggestion.note(
      wish.consumers == 1
          ? "With one consumer, ring_type: spsc does as well: each producer is then a client with a ring of "
            "its own, no two contend, and answers find back."
          : "Each message goes to one of the consumers. The members of a pool trust each other.");
  return CDMF_OK;
}

cdmf_status suggest(const cdmf_size_wish* wish, cdmf_size_suggestion* out, cdmf_error* error) {
  return guarded_extension(error, [&]() -> cdmf_status {
    ErrorText text(error);
    if (wish->capacity > kCapacityMax) {
      return text.fail(CDMF_INVALID_ARGUMENT, 0, "shm: a ring has at most ", kCapacityMax, " slots, not ",
                       wish->capacity);
    }
    if (!std::has_single_bit(wish->capacity)) {
      return text.fail(CDMF_INVALID_ARGUMENT, 0, "shm: a capacity of ", wish->capacity,
                       " is not a power of two; the next is ",
                       std::bit_ceil(std::max<std::uint64_t>(wish->capacity, 1)));
    }
    if (wish->message_size == 0 || wish->message_size > kDescription.max_message_size_limit) {
      return text.fail(CDMF_INVALID_ARGUMENT, 0, "shm: messages of ", format_size(wish->message_size),
                       " cannot be sent; the largest have ", format_size(kDescription.max_message_size_limit));
    }
    Suggestion suggestion(*out);
    if (wish->producers > 1 || wish->consumers > 1) return suggest_pool(*wish, suggestion, text);
    // A slot per message, so that `capacity` of them fit at once; larger where even half a ring would not take the
    // largest frame. Where slots end, there are more of them.
    std::uint64_t slot = std::bit_ceil(record_bytes(wish->message_size));
    const std::uint64_t frame_bytes = wish->message_size + CDMF_FRAME_OVERHEAD_MAX;
    while (wish->capacity * slot < kRingBytesMin || payload_bytes_max(wish->capacity * slot) < frame_bytes) slot *= 2;
    const std::uint64_t slot_size = std::min(slot, kSlotSizeMax);
    const std::uint64_t capacity = std::max(kCapacityMin, wish->capacity * (slot / slot_size));
    if (capacity > kCapacityMax) {
      return text.fail(CDMF_INVALID_ARGUMENT, 0, "shm: ", wish->capacity, " messages of ",
                       format_size(wish->message_size), " are more than a ring can hold, ", kCapacityMax, " slots of ",
                       format_size(kSlotSizeMax), "; a receiver that far behind needs a file, not a buffer");
    }
    suggestion.option("max_message_size", format_size(wish->message_size));
    suggestion.option("ring_buffer_capacity", std::to_string(capacity));
    suggestion.option("slot_size", format_size(slot_size));
    if (wish->latency_ns != 0) suggestion.option("wait", wish->latency_ns < kSpinLatencyNs ? "spin" : "adaptive");
    return CDMF_OK;
  });
}

}  // namespace

const cdmf_sizes kSizes{sizeof(cdmf_sizes), 0, parts, suggest};

}  // namespace cdmf::ipc::shm
