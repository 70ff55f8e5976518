// A member of the MPMC record ring dying after every instruction of every call, recovery included; then a survivor
// must settle what it left, the account must balance, and the whole ring must be usable again. Would catch: a moment
// in which a death blocks a slot, loses or doubles a message or a count, or leaves a line taken for ever.
//
// CDMF_SLOW=1: contention at every instruction, and more real kills.

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "fault/support/stepped_process.h"
#include "unit/plugins/shm/ring/mpmc_record_memory.h"

namespace cdmf::ipc::shm {
namespace {

using test::SteppedProcess;
using testing::MortalMember;
using testing::MpmcTestMemory;

constexpr std::uint32_t kSlots = 4;
constexpr std::uint32_t kSurvivor = 0;
constexpr std::uint32_t kChild = 1;
constexpr std::uint32_t kCorpse = 2;  // Of a member that died before, for the child to recover.
constexpr std::uint32_t kChecker = 3;

/// What the child tells before it dies; shared with it.
struct Notes {
  std::atomic<std::uint32_t> sent{0};      // Commits that returned.
  std::atomic<std::uint32_t> released{0};  // Releases that returned.
  std::atomic<bool> wrong{false};
};

class MpmcRecordSteps : public ::testing::Test {
 protected:
  MpmcRecordSteps() : memory_(kSlots, 64, 4) {
    void* const shared = mmap(nullptr, sizeof(Notes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) std::abort();
    notes_ = new (shared) Notes;
  }
  ~MpmcRecordSteps() override { munmap(notes_, sizeof(Notes)); }
  void SetUp() override {
    if (!test::can_trace()) GTEST_SKIP() << "tracing of children is not permitted here";
  }

  bool is_dead(std::uint32_t index) const { return index == kChild ? child_dead_ : index == kCorpse; }
  auto oracle() {
    return [this](std::uint32_t index, std::uint64_t) { return is_dead(index); };
  }

  static bool put(MpmcRecordMember& member, std::uint64_t value) {
    if (member.claim() != MpmcOutcome::done) return false;
    std::memcpy(member.payload().data(), &value, sizeof value);
    member.commit(sizeof value, 0, 0);
    return true;
  }
  static std::uint64_t value_of(const MpmcRecordView& view) {
    std::uint64_t value = 0;
    if (view.payload_bytes == sizeof value) std::memcpy(&value, view.payload, sizeof value);
    return value;
  }

  /// One life of the child, instruction by instruction, at most `steps` of them. After each, look(): what the shared
  /// memory holds then is what it would hold for ever, were the child killed there. `meddle_` is done by the survivor
  /// after `meddle_at_` of them. How many there were; fewer than `steps` when the child ended by itself.
  std::uint64_t live(std::uint64_t steps, const std::function<void(std::uint64_t)>& look) {
    child_dead_ = false;
    memory_.reset();
    new (notes_) Notes;
    survivor_ = std::make_unique<MpmcRecordMember>(memory_.ring, kSurvivor);
    EXPECT_TRUE(survivor_->attach());
    prepare_();
    std::uint64_t done = 0;
    SteppedProcess child([this] {
      alignas(MpmcRecordMember) std::byte storage[sizeof(MpmcRecordMember)];
      // Never destroyed: what happens to it, happens in act_.
      auto* const member = new (storage) MpmcRecordMember(memory_.ring, kChild);
      if (attached_before_ && !member->attach()) _exit(3);
      SteppedProcess::stop_here();
      act_(*member);
    });
    look(0);
    while (done < steps && child.step() && !HasFailure()) {
      if (++done == meddle_at_ && meddle_) meddle_();
      look(done);
    }
    child.kill();
    if (done < steps && !HasFailure()) {
      EXPECT_TRUE(child.finished());
    }
    EXPECT_FALSE(notes_->wrong);
    return done;
  }

  /// Settles and checks what a death after each single instruction would leave. Then does the same after real kills,
  /// at some of them: those show that a stopped child and a killed one leave the same.
  void sweep(const char* name) {
    const bool slow = std::getenv("CDMF_SLOW") != nullptr;
    std::uint64_t all = 0, instructions = 0, states = 0, kills = 0;
    std::vector<std::byte> before(memory_.size_bytes()), now(memory_.size_bytes());
    Notes noted_before;
    const auto look = [&](std::uint64_t step) {
      ++instructions;
      std::memcpy(now.data(), memory_.bytes(), now.size());
      // The outcome depends on nothing but these.
      if (step != 0 && now == before && noted_before.sent == notes_->sent && noted_before.released == notes_->released)
        return;
      ++states;
      before = now;
      noted_before.sent = notes_->sent.load();
      noted_before.released = notes_->released.load();
      settle_and_check("after instruction " + std::to_string(step));
      std::memcpy(memory_.bytes(), now.data(), now.size());  // The child lives on as if nothing had happened.
    };
    all = live(~std::uint64_t{0}, look);
    if (meddle_) {  // At each instruction, or some: each needs a life.
      for (meddle_at_ = 2; meddle_at_ < all && !HasFailure(); meddle_at_ += slow ? 1 : all / 16 + 1)
        live(~std::uint64_t{0}, look);
    }
    std::mt19937 random(static_cast<std::uint32_t>(time(nullptr)));
    for (; kills < (slow ? 200u : 5u) && !HasFailure(); ++kills) {
      const std::uint64_t steps = random() % all;
      if (meddle_) meddle_at_ = 1 + random() % (steps + 1);
      live(steps, [](std::uint64_t) {});
      settle_and_check("killed after instruction " + std::to_string(steps));
    }
    std::printf("%s: %llu moments of death looked at, %llu different states of the ring; %llu real kills\n", name,
                static_cast<unsigned long long>(instructions), static_cast<unsigned long long>(states),
                static_cast<unsigned long long>(kills));
  }

  /// By a member that was not there before, as nobody else's memory is put back afterwards.
  void settle_and_check(const std::string& when) {
    SCOPED_TRACE(when);
    child_dead_ = true;
    settle_and_check();
    child_dead_ = false;
  }
  void settle_and_check() {
    MpmcRecordMember checker(memory_.ring, kChecker);
    ASSERT_TRUE(checker.attach());
    const MpmcRecovery recovery = checker.recover(oracle());
    ASSERT_EQ(recovery.fault, MpmcFault::none) << to_string(recovery.fault);
    ASSERT_EQ(recovery.waiting, 0u) << "nobody else is at work";
    drained_.clear();
    MpmcRecordView view;
    MpmcOutcome outcome;
    while ((outcome = checker.receive(view)) == MpmcOutcome::done) {
      drained_.push_back(value_of(view));
      checker.release(view);
    }
    ASSERT_EQ(outcome, MpmcOutcome::unavailable) << "blocked by the dead";
    tail_ = memory_.ring.tail();
    ASSERT_EQ(tail_, memory_.ring.head());
    counters_ = checker.counters();
    check_();
    ASSERT_EQ(checker.recover(oracle()).recovered, 0u) << "once";
    // Everything is usable again: all slots, in both directions, and the line of the dead.
    for (std::uint64_t lap = 0; lap < 2; ++lap) {
      for (std::uint64_t i = 0; i < kSlots; ++i) ASSERT_TRUE(put(checker, i));
      ASSERT_EQ(checker.claim(), MpmcOutcome::unavailable);
      for (std::uint64_t i = 0; i < kSlots; ++i) {
        ASSERT_EQ(checker.receive(view), MpmcOutcome::done);
        ASSERT_EQ(value_of(view), i);
        checker.release(view);
      }
    }
    MpmcRecordMember heir(memory_.ring, kChild);
    ASSERT_TRUE(heir.attach());
  }

  /// Messages, lost messages and positions add up, and the child's own report fits.
  void check_consumed(std::uint64_t sent) {
    const std::uint64_t released = sent - drained_.size() - counters_.lost;
    EXPECT_GE(released, notes_->released);
    EXPECT_LE(released, notes_->released + 1u) << "one release may have happened without having returned";
    EXPECT_EQ(counters_.tombstones, 0u);
    for (std::size_t i = 0; i < drained_.size(); ++i) EXPECT_EQ(drained_[i], sent - drained_.size() + i + 1);
  }

  MpmcTestMemory memory_;
  Notes* notes_;
  std::unique_ptr<MpmcRecordMember> survivor_;
  bool child_dead_ = false;
  bool attached_before_ = true;
  std::uint64_t meddle_at_ = 0;
  std::function<void()> prepare_ = [] {}, check_ = [] {}, meddle_;
  std::function<void(MpmcRecordMember&)> act_;
  std::vector<std::uint64_t> drained_;
  std::uint64_t tail_ = 0;
  MpmcRecordCounters counters_;
};

TEST_F(MpmcRecordSteps, SendingABatch) {
  act_ = [this](MpmcRecordMember& member) {
    if (member.claim(2) != MpmcOutcome::done || member.claimed_count() != 2) notes_->wrong = true;
    for (std::uint32_t which = 0; which < 2; ++which) {
      const std::uint64_t value = which + 1;
      std::memcpy(member.payload(which).data(), &value, sizeof value);
      member.commit(sizeof value, 0, 0, which);
      ++notes_->sent;
    }
  };
  check_ = [this] {
    EXPECT_GE(drained_.size(), notes_->sent) << "what was committed arrives";
    EXPECT_LE(drained_.size(), notes_->sent + 1u);
    for (std::size_t i = 0; i < drained_.size(); ++i) EXPECT_EQ(drained_[i], i + 1);
    EXPECT_EQ(counters_.tombstones + drained_.size(), tail_) << "what was not is skipped";
    EXPECT_EQ(counters_.lost, 0u);
  };
  sweep("claim and commit");
}

TEST_F(MpmcRecordSteps, Aborting) {
  act_ = [](MpmcRecordMember& member) {
    if (member.claim(3) == MpmcOutcome::done) member.abort_all();
  };
  check_ = [this] { EXPECT_TRUE(drained_.empty()); };
  sweep("claim and abort");
}

TEST_F(MpmcRecordSteps, SendingWhileAnotherIsFaster) {
  // The survivor claims at some instruction of the child's claim, whose swap then fails, sooner or later.
  act_ = [this](MpmcRecordMember& member) {
    if (!put(member, 7)) notes_->wrong = true;
    ++notes_->sent;
  };
  meddle_ = [this] { EXPECT_TRUE(put(*survivor_, 8)); };
  meddle_at_ = 1;
  check_ = [this] {
    const auto of_child = static_cast<std::uint32_t>(std::count(drained_.begin(), drained_.end(), 7u));
    EXPECT_GE(of_child, notes_->sent);
    EXPECT_LE(of_child, notes_->sent + 1u);
    EXPECT_EQ(counters_.tombstones + drained_.size(), tail_);
  };
  sweep("claim and commit, contended");
}

TEST_F(MpmcRecordSteps, Receiving) {
  prepare_ = [this] {
    for (std::uint64_t i = 1; i <= 3; ++i) ASSERT_TRUE(put(*survivor_, i));
  };
  act_ = [this](MpmcRecordMember& member) {
    MpmcRecordView views[2];
    if (member.receive_burst(views).count != 2) notes_->wrong = true;
    for (const MpmcRecordView& view : views) {
      if (value_of(view) != view.position + 1) notes_->wrong = true;
      member.release(view);
      ++notes_->released;
    }
  };
  check_ = [this] { check_consumed(3); };
  sweep("receive and release");
}

TEST_F(MpmcRecordSteps, Holding) {
  prepare_ = [this] {
    for (std::uint64_t i = 1; i <= 3; ++i) ASSERT_TRUE(put(*survivor_, i));
  };
  act_ = [this](MpmcRecordMember& member) {
    MpmcRecordView held, view;
    if (member.receive(held) != MpmcOutcome::done || !member.hold(held)) notes_->wrong = true;
    if (member.receive(view) != MpmcOutcome::done) notes_->wrong = true;
    member.release(view);
    ++notes_->released;
    if (!member.release_held(held.position)) notes_->wrong = true;
    ++notes_->released;
  };
  check_ = [this] { check_consumed(3); };
  sweep("receive, hold and release");
}

TEST_F(MpmcRecordSteps, AttachingAndDetaching) {
  attached_before_ = false;
  prepare_ = [this] {
    for (std::uint64_t i = 1; i <= 3; ++i) ASSERT_TRUE(put(*survivor_, i));
  };
  act_ = [this](MpmcRecordMember& member) {
    if (!member.attach()) notes_->wrong = true;
    MpmcRecordView views[3];
    if (member.receive_burst(views).count != 3 || !member.hold(views[1])) notes_->wrong = true;
    if (member.claim() != MpmcOutcome::done) notes_->wrong = true;
    member.detach();
  };
  check_ = [this] {
    EXPECT_LE(counters_.lost + drained_.size(), 3u);
    EXPECT_LE(counters_.tombstones, 1u);
    EXPECT_LE(counters_.recoveries, 1u);
    if (!drained_.empty()) {
      EXPECT_EQ(drained_.size(), 3u);
    }
  };
  sweep("attach and detach with everything open");
}

TEST_F(MpmcRecordSteps, Recovering) {
  // The corpse claimed two and committed one; received two more, holds one of them.
  prepare_ = [this] {
    MortalMember corpse(memory_.ring, kCorpse);
    ASSERT_TRUE(corpse->attach());
    for (std::uint64_t i = 1; i <= 2; ++i) ASSERT_TRUE(put(*survivor_, i));
    MpmcRecordView views[2];
    ASSERT_EQ(corpse->receive_burst(views).count, 2u);
    ASSERT_TRUE(corpse->hold(views[1]));
    ASSERT_EQ(corpse->claim(2), MpmcOutcome::done);
    const std::uint64_t value = 3;
    std::memcpy(corpse->payload(1).data(), &value, sizeof value);
    corpse->commit(sizeof value, 0, 0, 1);
    corpse.die();
  };
  act_ = [this](MpmcRecordMember& member) {
    const MpmcRecovery recovery = member.recover([](std::uint32_t index, std::uint64_t) { return index == kCorpse; });
    if (recovery.recovered != 1) notes_->wrong = true;
  };
  check_ = [this] {
    ASSERT_EQ(drained_, std::vector<std::uint64_t>{3});
    EXPECT_EQ(counters_.lost, 2u) << "each exactly once, whoever died counting";
    EXPECT_EQ(counters_.recoveries, 2u);
    EXPECT_LE(counters_.tombstones, 1u) << "a survivor that dies may miss one";
  };
  sweep("recover");
}

}  // namespace
}  // namespace cdmf::ipc::shm
