// Processes on one MPMC record ring, killed and stopped at random moments, replaced at once. Each round ends with an
// account of every message. Would catch: a committed message lost that no dead consumer had, one received twice, torn,
// or out of its producer's order, a stopped process taken for dead, a loss counted wrongly, survivors that stand still.
//
// CDMF_SLOW=1: a minute; otherwise two seconds. Death is proven as the transport does it: by a lock of an open file
// description, which the kernel frees.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "checksum.h"
#include "unit/plugins/shm/ring/mpmc_record_memory.h"

namespace cdmf::ipc::shm {
namespace {

using testing::MpmcTestMemory;
using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kProcesses = 4;
constexpr std::uint32_t kLines = kProcesses + 1;  // One is the parent's.
constexpr std::uint32_t kStreams = 128;           // Lives of a process in one round; each sends one stream.
constexpr std::uint32_t kPerStream = 2048;        // Messages of one stream; then it only receives.
constexpr auto kWatchdog = std::chrono::seconds(30);

struct Header {
  std::uint32_t stream;
  std::uint32_t number;
};

/// What all processes write down; one round.
struct Journal {
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> progress{0};
  std::atomic<std::uint32_t> errors{0};
  std::atomic<std::uint32_t> sent[kStreams];  // Commits that returned.
  // 0, or position << 2 | 1 when received, 2 when its release has returned.
  std::atomic<std::uint64_t> got[kStreams][kPerStream];
};

/// The lock of a line: held by its user, tested by everybody else.
class LineLocks {
 public:
  explicit LineLocks(int file) {
    // A description of its own: copies of one descriptor share their locks, and so would not see each other.
    const std::string path = "/proc/self/fd/" + std::to_string(file);
    file_ = open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (file_ < 0) std::abort();
  }
  ~LineLocks() { close(file_); }
  LineLocks(const LineLocks&) = delete;
  LineLocks& operator=(const LineLocks&) = delete;
  bool take(std::uint32_t line) const {
    struct flock lock = range(line);
    return fcntl(file_, F_OFD_SETLK, &lock) == 0;
  }
  bool is_free(std::uint32_t line) const {
    struct flock lock = range(line);
    return fcntl(file_, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK;
  }

 private:
  static struct flock range(std::uint32_t line) {
    struct flock lock {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = line;
    lock.l_len = 1;
    return lock;
  }
  int file_;
};

class Storm {
 public:
  Storm() : memory_(8, 256, kLines), file_(memfd_create("lines", MFD_CLOEXEC)) {
    void* const shared = mmap(nullptr, sizeof(Journal), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || file_ < 0) std::abort();
    journal_ = static_cast<Journal*>(shared);
  }
  ~Storm() {
    for (const pid_t pid : pids_) {
      if (pid > 0) end(pid);
    }
    munmap(journal_, sizeof(Journal));
    close(file_);
  }

  /// Kills `kStreams` processes less the last generation, or until the time is over. False when something was wrong.
  void round(Clock::time_point end_of_storm, std::mt19937& random) {
    memory_.reset();
    std::memset(static_cast<void*>(journal_), 0, sizeof *journal_);
    std::uint32_t streams = 0;
    for (std::uint32_t i = 0; i < kProcesses; ++i) pids_[i] = spawn(i, streams++);
    while (streams < kStreams && Clock::now() < end_of_storm && journal_->errors == 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
      const std::uint32_t victim = random() % kProcesses;
      if (random() % 5 == 0) {
        kill(pids_[victim], SIGSTOP);
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
        kill(pids_[victim], SIGCONT);
        ++stops_;
        continue;
      }
      end(pids_[victim]);
      ++kills_;
      const std::uint64_t progress = journal_->progress;
      const auto killed = Clock::now();
      pids_[victim] = spawn(victim, streams++);
      while (journal_->progress == progress) {
        ASSERT_LT(Clock::now() - killed, kWatchdog) << "the survivors stand still";
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
      pauses_us_.push_back(std::chrono::duration<double, std::micro>(Clock::now() - killed).count());
    }
    journal_->stop = true;
    for (pid_t& pid : pids_) {
      int status = 0;
      const auto since = Clock::now();
      while (waitpid(pid, &status, WNOHANG) == 0) {
        ASSERT_LT(Clock::now() - since, kWatchdog) << "a process does not come to its end";
        std::this_thread::sleep_for(std::chrono::microseconds(200));
      }
      pid = -1;
      ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    }
    ASSERT_EQ(journal_->errors, 0u) << "see above";
    account(streams);
  }

  void report() {
    std::sort(pauses_us_.begin(), pauses_us_.end());
    const auto at = [&](double part) {
      return pauses_us_.empty()
                 ? 0
                 : pauses_us_[static_cast<std::size_t>(part * static_cast<double>(pauses_us_.size() - 1))];
    };
    std::printf(
        "%llu kills, %llu stops; %llu messages received, %llu lost with their consumers, %llu tombstones\n"
        "from a death to the next message of anybody: median %.0f us, p99 %.0f us\n",
        static_cast<unsigned long long>(kills_), static_cast<unsigned long long>(stops_),
        static_cast<unsigned long long>(received_), static_cast<unsigned long long>(lost_),
        static_cast<unsigned long long>(tombstones_), at(0.5), at(0.99));
  }
  std::uint64_t kills() const { return kills_; }

 private:
  static void end(pid_t pid) {
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
  }

  pid_t spawn(std::uint32_t line, std::uint32_t stream) {
    const pid_t pid = fork();
    if (pid < 0) std::abort();
    if (pid == 0) {
      live(line, stream);
      _exit(0);
    }
    return pid;
  }

  // --- in the children ---

  void wrong(const char* what, std::uint64_t which) {
    std::fprintf(stderr, "pid %d: %s %llu\n", getpid(), what, static_cast<unsigned long long>(which));
    ++journal_->errors;
  }

  void live(std::uint32_t line, std::uint32_t stream) {
    const LineLocks locks(file_);
    const auto is_dead = [&](std::uint32_t i, std::uint64_t) { return locks.is_free(i); };
    while (!locks.take(line)) sched_yield();
    MpmcRecordMember member(memory_.ring, line);
    while (!member.attach()) (void)member.recover(is_dead);
    std::mt19937 random(stream * 977 + static_cast<std::uint32_t>(getpid()));
    std::uint32_t next = 0;
    while (!journal_->stop) {
      bool moved = false;
      if (random() % 2 == 0 && next < kPerStream - 4) moved = send(member, stream, next, random);
      if (random() % 2 == 0) moved |= receive(member, random);
      if (!moved && random() % 8 == 0) {
        if (member.recover(is_dead).fault != MpmcFault::none) wrong("fault in recovery", 0);
        sched_yield();
      }
      if (member.fault() != MpmcFault::none) {
        wrong(to_string(member.fault()), line);
        return;
      }
    }
  }

  /// Now and then long enough for a kill to find the process with something in hand.
  static void linger(std::mt19937& random) {
    if (random() % 128 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 300));
  }

  bool send(MpmcRecordMember& member, std::uint32_t stream, std::uint32_t& next, std::mt19937& random) {
    if (member.claim(1 + random() % 4) != MpmcOutcome::done) return false;
    const std::uint32_t count = member.claimed_count();
    for (std::uint32_t which = 0; which < count; ++which) {
      linger(random);
      if (random() % 16 == 0) {
        member.abort(which);
        continue;
      }
      const Header header{stream, next};
      std::byte* const payload = member.payload(which).data();
      const std::uint32_t size = sizeof header + random() % (member.payload_bytes_max() - sizeof header + 1);
      std::memcpy(payload, &header, sizeof header);
      std::memset(payload + sizeof header, static_cast<int>(next * 7 + stream), size - sizeof header);
      member.commit(size, next, crc32_ieee(payload, size), which);
      journal_->sent[stream] = ++next;
    }
    ++journal_->progress;
    return true;
  }

  bool receive(MpmcRecordMember& member, std::mt19937& random) {
    std::array<MpmcRecordView, 3> views;
    const MpmcReceived received = member.receive_burst({views.data(), 1 + random() % views.size()});
    if (received.outcome != MpmcOutcome::done) return false;
    for (std::size_t i = 0; i < received.count; ++i) {
      linger(random);
      if (std::atomic<std::uint64_t>* const got = note(views[i]); got != nullptr) {
        if (random() % 8 == 0 && member.hold(views[i])) {
          member.release_held(views[i].position);
        } else {
          member.release(views[i]);
        }
        *got = views[i].position << 2 | 2;
      }
    }
    ++journal_->progress;
    return true;
  }

  std::atomic<std::uint64_t>* note(const MpmcRecordView& view) {
    Header header{};
    if (view.payload_bytes < sizeof header || view.checksum != crc32_ieee(view.payload, view.payload_bytes)) {
      wrong("torn message at position", view.position);
      return nullptr;
    }
    std::memcpy(&header, view.payload, sizeof header);
    if (header.stream >= kStreams || header.number >= kPerStream || view.timestamp_us != header.number) {
      wrong("foreign message at position", view.position);
      return nullptr;
    }
    auto& got = journal_->got[header.stream][header.number];
    std::uint64_t never = 0;
    if (!got.compare_exchange_strong(never, view.position << 2 | 1)) {
      wrong("message received twice, second at position", view.position);
      return nullptr;
    }
    return &got;
  }

  // --- at the end of a round ---

  void account(std::uint32_t streams) {
    const LineLocks locks(file_);
    MpmcRecordMember member(memory_.ring, kProcesses);
    const MpmcRecovery recovery = member.recover([&](std::uint32_t i, std::uint64_t) { return locks.is_free(i); });
    ASSERT_EQ(recovery.fault, MpmcFault::none);
    ASSERT_EQ(recovery.waiting, 0u);
    ASSERT_TRUE(member.attach());
    std::mt19937 random(1);
    while (receive(member, random)) {
    }
    ASSERT_EQ(journal_->errors, 0u);
    ASSERT_EQ(memory_.ring.tail(), memory_.ring.head()) << "everything is settled";
    for (std::uint32_t i = 0; i < 2 * memory_.ring.slot_count(); ++i) {
      ASSERT_EQ(member.claim(), MpmcOutcome::done) << "all slots are usable again";
      member.abort();
      MpmcRecordView view;
      ASSERT_EQ(member.receive(view), MpmcOutcome::unavailable);
    }

    std::uint64_t missing = 0, uncertain = 0;
    for (std::uint32_t stream = 0; stream < streams; ++stream) {
      const std::uint32_t sent = journal_->sent[stream];
      std::uint64_t last = 0;
      for (std::uint32_t number = 0; number < kPerStream; ++number) {
        const std::uint64_t got = journal_->got[stream][number];
        if (got == 0) {
          if (number < sent) ++missing;
          continue;
        }
        ASSERT_LE(number, sent) << "only the last commit may not have returned";
        ASSERT_GE((got >> 2) + 1, last) << "order of one producer";
        last = (got >> 2) + 1;
        ++received_;
        if ((got & 3) == 1) ++uncertain;  // Its consumer died before or after the release.
      }
      ++uncertain;  // The commit that may not have returned.
    }
    const MpmcRecordCounters counters = member.counters();
    EXPECT_GE(counters.lost, missing) << "committed, received by nobody, and not counted as lost";
    EXPECT_LE(counters.lost, missing + uncertain) << "counted as lost without being so";
    lost_ += counters.lost;
    tombstones_ += counters.tombstones;
  }

  MpmcTestMemory memory_;
  int file_;
  Journal* journal_;
  std::array<pid_t, kProcesses> pids_{};
  std::uint64_t kills_ = 0, stops_ = 0, received_ = 0, lost_ = 0, tombstones_ = 0;
  std::vector<double> pauses_us_;
};

TEST(MpmcRecordStorm, NothingIsLostDoubledOrTornByKillsAndStops) {
  const bool slow = std::getenv("CDMF_SLOW") != nullptr;
  const auto end = Clock::now() + std::chrono::seconds(slow ? 60 : 2);
  std::mt19937 random(static_cast<std::uint32_t>(getpid()));
  Storm storm;
  do {
    storm.round(end, random);
  } while (Clock::now() < end && !::testing::Test::HasFailure());
  storm.report();
  EXPECT_GT(storm.kills(), 0u);
}

}  // namespace
}  // namespace cdmf::ipc::shm
