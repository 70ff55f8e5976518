#include "ring/dirty_lines.h"

#include <gtest/gtest.h>

namespace cdmf::ipc::shm {
namespace {

constexpr std::uint64_t kLines = 320;

TEST(DirtyLines, ARecordClearsItsFirstLineAndMarksTheOthersWhereverItLies) {
  for (const bool dirty_before : {false, true}) {
    for (std::uint64_t first = 0; first < 130; ++first) {
      for (std::uint64_t count = 1; first + count <= kLines; ++count) {
        DirtyLines lines(kLines);
        if (dirty_before) lines.mark(0, kLines);
        lines.note_record(first, count);
        for (std::uint64_t line = 0; line < kLines; ++line) {
          const bool inside = line > first && line < first + count;
          ASSERT_EQ(lines.test(line), line != first && (inside || dirty_before))
              << "line " << line << " after a record of " << count << " at " << first;
        }
      }
    }
  }
}

TEST(DirtyLines, MarkCoversExactlyTheRange) {
  for (std::uint64_t first = 0; first < 200; first += 7) {
    for (std::uint64_t last = 0; last <= 200; last += 3) {
      DirtyLines lines(200);
      lines.mark(first, last);
      for (std::uint64_t line = 0; line < 200; ++line) {
        ASSERT_EQ(lines.test(line), line >= first && line < last) << first << ' ' << last << ' ' << line;
      }
    }
  }
}

}  // namespace
}  // namespace cdmf::ipc::shm
