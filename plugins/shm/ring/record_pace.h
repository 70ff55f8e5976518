#pragma once
// ring/record_pace.h: when a polling reader should leave a stream alone for a moment. Figures: README.md, "Streams".

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace cdmf::ipc::shm {

/// Decides, after each poll of a ring, whether to rest before the next one.
///
/// A reader that empties the ring as fast as it fills reads each line out of the writer's cache, one after the other
/// since a record's length says where the next one begins, and the writer fetches each line back: both then move at
/// the speed of single lines. A few microseconds behind, the reader finds runs of lines that the hardware prefetches,
/// and the writer is left alone: several times as many records a second. A lone message must not wait, though. Hence:
///
///   - A stream is when records come nearly as often as polls. Of messages that are waited for one by one, each costs
///     many polls that find nothing, and no rest is ever advised.
///   - A rest that brought little was a mistake (the records were a batch that somebody now waits for an answer to):
///     each one in a row doubles the number of records before the next, so that mistakes cost ever less.
///
/// Makes no system call and reads no clock. One per ring, used by the thread that polls it.
class RecordPace {
 public:
  /// How long a rest is, in pause instructions: some 4 to 10 us. Less is not enough for a run of lines; more adds
  /// little, and would add to the latency of what comes at the end of a stream.
  static constexpr unsigned kRestPauses = 256;
  static constexpr std::uint32_t kStreamRecords = 32;  // Ahead of the empty polls by so many: a stream.
  static constexpr std::uint32_t kWorthRecords = 128;  // What a rest must bring. A stream brings 200 and more.
  static constexpr std::uint32_t kStreamRecordsMax = 1u << 20;

  /// records  what the poll brought. True: rest before the next poll.
  bool after_poll(std::size_t records) noexcept {
    if (records != 0) [[likely]] {
      const std::uint64_t sum = std::uint64_t{credit_} + records;
      credit_ = static_cast<std::uint32_t>(std::min<std::uint64_t>(sum, needed_));
      brought_ = static_cast<std::uint32_t>(std::min<std::uint64_t>(std::uint64_t{brought_} + records, kWorthRecords));
      return false;
    }
    if (rested_) {  // The first empty poll since: the sum of it.
      rested_ = false;
      const bool worth = brought_ == kWorthRecords;
      needed_ = worth ? kStreamRecords : std::min(2 * needed_, kStreamRecordsMax);
      credit_ = worth ? needed_ : 0;
    }
    if (credit_ < needed_) {
      if (credit_ != 0) --credit_;
      return false;
    }
    rested_ = true;
    brought_ = 0;
    return true;
  }

 private:
  std::uint32_t credit_ = 0;  // Records less empty polls, 0 to needed_.
  std::uint32_t needed_ = kStreamRecords;
  std::uint32_t brought_ = 0;  // Since the rest, counted up to what it takes.
  bool rested_ = false;        // And no empty poll since.
};

}  // namespace cdmf::ipc::shm
