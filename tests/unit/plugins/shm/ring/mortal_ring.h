#pragma once
// A ring of many producers and consumers whose members die on demand, and messages that tell whether they are whole.

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <memory>
#include <set>
#include <vector>

#include "mpmc_record_memory.h"

namespace cdmf::ipc::shm::testing {

/// Sends a value whose envelope follows from it; value_of() and take() check that.
inline bool put(MpmcRecordMember& member, std::uint64_t value) {
  if (member.claim() != MpmcOutcome::done) return false;
  std::memcpy(member.payload().data(), &value, sizeof value);
  member.commit(sizeof value, value + 1, static_cast<std::uint32_t>(value + 2));
  return true;
}
inline std::uint64_t value_of(const MpmcRecordView& view) {
  std::uint64_t value = 0;
  EXPECT_EQ(view.payload_bytes, sizeof value);
  std::memcpy(&value, view.payload, sizeof value);
  EXPECT_EQ(view.timestamp_us, value + 1);
  EXPECT_EQ(view.checksum, static_cast<std::uint32_t>(value + 2));
  return value;
}
inline std::uint64_t take(MpmcRecordMember& member) {
  MpmcRecordView view;
  if (member.receive(view) != MpmcOutcome::done) return std::numeric_limits<std::uint64_t>::max();
  const std::uint64_t value = value_of(view);
  member.release(view);
  return value;
}

/// A ring whose members die on demand.
struct MortalRing {
  explicit MortalRing(std::uint32_t slot_count, std::uint32_t members = 4) : memory(slot_count, 64, members) {
    for (std::uint32_t i = 0; i < members; ++i) {
      all.push_back(std::make_unique<MortalMember>(memory.ring, i));
      EXPECT_TRUE((*all.back())->attach());
    }
  }
  MpmcRecordMember& operator[](std::size_t i) { return **all[i]; }
  void die(std::uint32_t i) {
    all[i]->die();
    dead.insert(i);
  }
  MpmcRecovery recover(std::size_t by) {
    return (*this)[by].recover([&](std::uint32_t i, std::uint64_t) { return dead.contains(i); });
  }
  MpmcTestMemory memory;
  std::vector<std::unique_ptr<MortalMember>> all;
  std::set<std::uint32_t> dead;
};

}  // namespace cdmf::ipc::shm::testing
