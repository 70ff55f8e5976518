// The evidence that the suite can fail: a driver broken in one way makes exactly the test of that promise fail, and the
// same driver unbroken passes them all.
#include <gtest/gtest.h>
#include <sys/prctl.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <ostream>
#include <set>
#include <thread>

#include "cli/conform/suite_process.h"

namespace cdmf::ipc::conformance {
namespace {

using cli::conform::SuiteProcess;
using cli::conform::TestResult;
using cli::conform::Verdict;
using Names = std::set<std::string>;

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

struct Broken {
  const char* fault;
  /// Exactly these fail. More than one where the fault breaks two promises at once, or where both the table and a
  /// program that uses it must notice.
  Names failing;
};

void PrintTo(const Broken& broken, std::ostream* out) { *out << broken.fault; }

const Broken kBroken[] = {
    {"reorders", {"Messages.ArriveWholeAndInOrder", "Messages.SentInBatchesArriveWholeAndInOrder"}},
    {"duplicates",
     {"Messages.ArriveWholeAndInOrder", "Messages.SentInBatchesArriveWholeAndInOrder",
      "Polled.ABatchSaysHowManyWereSentAndExactlyThoseArrive"}},
    {"drops_one",
     {"Messages.ArriveWholeAndInOrder", "Messages.SentInBatchesArriveWholeAndInOrder",
      "Polled.ABatchSaysHowManyWereSentAndExactlyThoseArrive"}},
    {"tears", {"Messages.OfEverySizeUpToTheMaximumArriveAndALargerOneIsRefused"}},
    {"cuts_a_byte", {"Messages.OfEverySizeUpToTheMaximumArriveAndALargerOneIsRefused"}},
    {"refuses_the_largest",
     {"Driver.FramesArriveAlignedWithTheBytesOfTheirCommit", "Messages.WrittenInPlaceArriveLikeOthers",
      "Messages.OfEverySizeUpToTheMaximumArriveAndALargerOneIsRefused"}},
    {"misaligned_claim", {"Driver.ClaimsAreAlignedMemoryOfTheSizeAskedForOrAReason"}},
    {"publishes_before_flush", {"Polled.ABatchIsInvisibleBeforeItsFlushAndWholeAfterIt"}},
    {"delivers_aborted",
     {"Driver.ClaimsAreAlignedMemoryOfTheSizeAskedForOrAReason",
      "Messages.AShrunkLoanSendsItsFrontAndAnAbortedOneNothing"}},
    {"ignores_shrink",
     {"Driver.FramesArriveAlignedWithTheBytesOfTheirCommit", "Messages.AShrunkLoanSendsItsFrontAndAnAbortedOneNothing",
      "Messages.WrittenInPlaceArriveLikeOthers"}},
    {"drops_when_full",
     {"Driver.WaitsEndAtTheirDeadlineAndNotBefore", "Peers.OneThatDoesNotReadDoesNotStopTheOthers",
      "Polled.FullIsToldAtOnceOrAfterTheTimeoutAndWhatWasAcceptedArrives"}},
    {"timeout_early", {"Driver.WaitsEndAtTheirDeadlineAndNotBefore"}},
    {"loses_a_wake_up", {"Polled.AnEventLoopOverTheDescriptorMissesNothing"}},
    {"descriptor_always_ready", {"Polled.AnArmedDescriptorIsQuietWhenNothingComes"}},
    {"loses_an_early_interrupt", {"Driver.AnInterruptEndsTheNextWaitOfEachKind"}},
    {"replies_to_the_wrong_peer", {"Peers.EachGetsItsOwnReplies"}},
    {"starves_peers", {"Peers.ABusyOneDoesNotStarveTheQuietOnes"}},
    {"leaks_a_descriptor", {"Life.TwoHundredLivesLeaveNothingBehind"}},
    {"leaks_a_thread", {"Life.TwoHundredLivesLeaveNothingBehind"}},
    {"leaks_a_mapping", {"Life.TwoHundredLivesLeaveNothingBehind"}},
    {"reuses_peer_ids",
     {"Driver.MayBeClosedTwiceAndOpenedAgain", "Life.AClientFindsItsRestartedServerByItself",
      "Peers.HaveIdsThatAreNeverUsedAgain"}},
    {"overwrites_what_is_held", {"Polled.HeldMessagesKeepTheirBytesWhileTheLinkGoesOnAndAfterItsEnd"}},
    {"announces_twice",
     {"Driver.AnnouncesAPeerOnceAndItsEndOnceWithAReason",
      "Peers.ArriveBeforeTheirFirstAndLeaveAfterTheirLastMessage"}},
    {"ends_without_a_reason", {"Driver.AnnouncesAPeerOnceAndItsEndOnceWithAReason"}},
    {"no_timestamp", {"Messages.CarryTheTimeOfSending"}},
    {"second_server_unnoticed", {"Life.AnEndpointHasOneServerAndIsFreeAgainAfterIt"}},
    {"endpoints_are_one", {"Life.TwoTransportsOfOneTypeDoNotMeet"}},
    {"crashes_on_close_with_a_claim",
     {"Driver.MayBeClosedTwiceAndOpenedAgain", "Messages.ALoanOutlivesStopAndItsPeer"}},
    {"hangs_on_close_with_a_claim", {"Driver.MayBeClosedTwiceAndOpenedAgain", "Messages.ALoanOutlivesStopAndItsPeer"}},
    {"aborts_after_fork", {"Life.AfterForkTheChildIsRefusedAndTheParentGoesOn"}},
};

struct Outcome {
  Names failed;
  std::string texts;  ///< of those that failed
};

/// The whole suite on the driver with that fault, some tests at a time.
Outcome run_suite(const std::string& fault) {
  // Tests that must wait for something that never comes give up after 5 s, hanging ones are killed after 25.
  constexpr std::size_t kAtOnce = 6;
  const std::string suite = environment("CDMF_CONFORMANCE_SUITE");
  const auto tests = cli::conform::list_tests(suite, "*");
  EXPECT_GT(tests.size(), 50u);
  struct Running {
    std::string test;
    std::unique_ptr<SuiteProcess> process;
  };
  std::vector<Running> running;
  Outcome outcome;
  for (std::size_t next = 0; next < tests.size() || !running.empty();) {
    for (; next < tests.size() && running.size() < kAtOnce; ++next) {
      running.push_back({tests[next], std::make_unique<SuiteProcess>(
                                          suite,
                                          std::vector<std::string>{"--plugin=" + environment("CDMF_FAULTY_PLUGIN"),
                                                                   "--property=fault=" + fault, "--watchdog=5",
                                                                   "--gtest_filter=" + tests[next]},
                                          std::filesystem::temp_directory_path(), std::chrono::seconds(25))});
    }
    std::erase_if(running, [&](Running& each) {
      if (!each.process->finished()) return false;
      const TestResult result = each.process->result();
      if (result.verdict == Verdict::failed) {
        outcome.failed.insert(each.test);
        outcome.texts += each.test + ": " + result.text + '\n';
      }
      return true;
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return outcome;
}

class NegativeControl : public ::testing::TestWithParam<Broken> {};

TEST_P(NegativeControl, FailsExactlyTheTestOfThePromise) {
  const Outcome outcome = run_suite(GetParam().fault);
  EXPECT_EQ(outcome.failed, GetParam().failing) << outcome.texts;
  if (GetParam().fault == std::string("crashes_on_close_with_a_claim")) {
    EXPECT_NE(outcome.texts.find("signal 11"), std::string::npos) << outcome.texts;
  }
  if (GetParam().fault == std::string("hangs_on_close_with_a_claim")) {
    EXPECT_NE(outcome.texts.find("no end within"), std::string::npos) << outcome.texts;
  }
}

INSTANTIATE_TEST_SUITE_P(, NegativeControl, ::testing::ValuesIn(kBroken),
                         [](const auto& each) { return each.param.fault; });

TEST(UnbrokenControl, PassesEverything) {
  const Outcome outcome = run_suite("none");
  EXPECT_EQ(outcome.failed, Names{}) << outcome.texts;
}

}  // namespace
}  // namespace cdmf::ipc::conformance

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  prctl(PR_SET_CHILD_SUBREAPER, 1);  // As `cdmf conform` does: sees what a test leaves behind.
  return RUN_ALL_TESTS();
}
