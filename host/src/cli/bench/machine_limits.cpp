#include "cli/bench/machine_limits.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <system_error>

#include "cli/process.h"

namespace cdmf::ipc::cli {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::nanoseconds;
constexpr auto kSilenceMax = std::chrono::seconds(10);
constexpr std::size_t kLineBytes = 64;
constexpr std::size_t kSocketBufferBytes = std::size_t{1} << 20;

[[noreturn]] void throw_errno(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

// Two lines apart, because processors fetch lines in pairs.
struct alignas(2 * kLineBytes) FlagLine {
  std::atomic<std::uint64_t> value{0};
};
struct alignas(2 * kLineBytes) FutexLine {
  std::atomic<std::uint32_t> value{0};
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free && std::atomic<std::uint32_t>::is_always_lock_free);

// Zeroed memory that a forked child shares; all members of the structs above are valid when zero.
class SharedMemory {
 public:
  explicit SharedMemory(std::size_t size_bytes) : size_bytes_(size_bytes) {
    address_ = mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (address_ == MAP_FAILED) throw_errno("cannot map shared memory for a measurement");
  }
  ~SharedMemory() { munmap(address_, size_bytes_); }
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  template <class T>
  [[nodiscard]] T* at(std::size_t offset_bytes = 0) const noexcept {
    return reinterpret_cast<T*>(static_cast<std::byte*>(address_) + offset_bytes);
  }

 private:
  void* address_ = nullptr;
  std::size_t size_bytes_;
};

class SocketPair {
 public:
  SocketPair() {
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds_) != 0) throw_errno("cannot make a pair of sockets");
    const int wanted = static_cast<int>(kSocketBufferBytes);
    const timeval silence{std::chrono::seconds(kSilenceMax).count(), 0};
    for (const int fd : fds_) {  // The system may grant smaller buffers; the limit is then what it grants.
      setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &wanted, sizeof wanted);
      setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
      setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &silence, sizeof silence);
    }
  }
  ~SocketPair() {
    close_end(0);
    close_end(1);
  }
  SocketPair(const SocketPair&) = delete;
  SocketPair& operator=(const SocketPair&) = delete;

  [[nodiscard]] int fd(int end) const noexcept { return fds_[end]; }
  void close_end(int end) noexcept {
    if (fds_[end] >= 0) ::close(fds_[end]);
    fds_[end] = -1;
  }

 private:
  int fds_[2] = {-1, -1};
};

bool send_all(int fd, const std::byte* bytes, std::size_t size) noexcept {
  while (size > 0) {
    const ssize_t sent = ::send(fd, bytes, size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    bytes += sent;
    size -= static_cast<std::size_t>(sent);
  }
  return true;
}

bool receive_all(int fd, std::byte* bytes, std::size_t size) noexcept {
  while (size > 0) {
    const ssize_t got = ::recv(fd, bytes, size, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    bytes += got;
    size -= static_cast<std::size_t>(got);
  }
  return true;
}

// The other process of one measurement. Killed when this object goes.
class Partner {
 public:
  Partner(const CpuPair& cpus, const std::function<void()>& body)
      : pin_(cpus.first), pinned_(cpus.pinned), child_(ChildProcess::call([&](ControlChannel&) {
          pin_to_cpu(cpus.second);
          body();
          return 0;
        })) {}

  // Polls until `ready()`, looking now and then whether anybody is left to make it so.
  template <class Ready>
  void poll_until(Ready&& ready) {
    constexpr int kPollsBetweenLooks = 1 << 16;  // Some 50 µs: a look is a system call.
    const auto begin_unset = Clock::time_point{};
    auto begin = begin_unset;
    for (;;) {
      for (int i = 0; i < kPollsBetweenLooks; ++i) {
        if (ready()) return;
        if (!pinned_) sched_yield();
      }
      if (begin == begin_unset) begin = Clock::now();
      check_alive(begin);
    }
  }

  // throws when the partner has died, or `waiting_since` is too long ago.
  void check_alive(Clock::time_point waiting_since) {
    if (const auto ended = child_.wait_for(std::chrono::milliseconds(0))) {
      throw std::runtime_error("the other process of a limit measurement ended early: " + ended->text());
    }
    if (Clock::now() - waiting_since > kSilenceMax) {
      throw std::runtime_error("the other process of a limit measurement has not answered for 10 s");
    }
  }

  // Describes why a socket call on it failed.
  [[noreturn]] void throw_lost() {
    const auto ended = child_.wait_for(std::chrono::milliseconds(100));
    throw std::runtime_error("the other process of a limit measurement " +
                             (ended ? "ended early: " + ended->text() : std::string("has not answered for 10 s")));
  }

 private:
  ScopedPin pin_;
  bool pinned_;
  ChildProcess child_;
};

// The partner's side of polling: it is killed with its parent, so it needs no way out of its own.
template <class Ready>
void poll_forever(bool pinned, Ready&& ready) noexcept {
  while (!ready()) {
    if (!pinned) sched_yield();
  }
}

// Not FUTEX_PRIVATE: two processes. Wakes by itself now and then, so that a dead partner is noticed.
void futex_sleep(std::atomic<std::uint32_t>& word, std::uint32_t while_value) noexcept {
  const timespec nap{0, 100'000'000};
  syscall(SYS_futex, &word, FUTEX_WAIT, while_value, &nap, nullptr, 0);
}

void futex_wake(std::atomic<std::uint32_t>& word) noexcept {
  syscall(SYS_futex, &word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

// Loads one word of every cache line; the result keeps the compiler from leaving it out.
std::uint64_t read_every_line(const std::byte* bytes, std::size_t size) noexcept {
  std::uint64_t sum[4] = {};
  for (std::size_t i = 0; i < size; i += 4 * kLineBytes) {
    for (std::size_t k = 0; k < 4; ++k) {
      std::uint64_t word;
      std::memcpy(&word, bytes + i + k * kLineBytes, sizeof word);
      sum[k] += word;
    }
  }
  return sum[0] + sum[1] + sum[2] + sum[3];
}

}  // namespace

RoundTrips cache_line_round_trip(const CpuPair& cpus, nanoseconds budget) {
  const SharedMemory memory(2 * sizeof(FlagLine));
  auto& there = memory.at<FlagLine>()[0].value;
  auto& back = memory.at<FlagLine>()[1].value;
  Partner partner(cpus, [&] {
    for (std::uint64_t turn = 1;; ++turn) {
      poll_forever(cpus.pinned, [&] { return there.load(std::memory_order_acquire) == turn; });
      back.store(turn, std::memory_order_release);
    }
  });
  std::uint64_t turn = 0;
  const auto once = [&] {
    there.store(++turn, std::memory_order_release);
    partner.poll_until([&] { return back.load(std::memory_order_acquire) == turn; });
  };
  return measure_round_trips(once, budget, 256);
}

RoundTrips futex_round_trip(const CpuPair& cpus, nanoseconds budget) {
  const SharedMemory memory(2 * sizeof(FutexLine));
  auto& there = memory.at<FutexLine>()[0].value;
  auto& back = memory.at<FutexLine>()[1].value;
  Partner partner(cpus, [&] {
    for (std::uint32_t turn = 1;; ++turn) {
      std::uint32_t seen = 0;
      while ((seen = there.load(std::memory_order_acquire)) != turn) futex_sleep(there, seen);
      back.store(turn, std::memory_order_release);
      futex_wake(back);
    }
  });
  std::uint32_t turn = 0;
  const auto once = [&] {
    there.store(++turn, std::memory_order_release);
    futex_wake(there);
    std::uint32_t seen = back.load(std::memory_order_acquire);
    if (seen == turn) return;
    const auto begin = Clock::now();
    for (; seen != turn; seen = back.load(std::memory_order_acquire)) {
      futex_sleep(back, seen);
      if (Clock::now() - begin > std::chrono::milliseconds(50)) partner.check_alive(begin);
    }
  };
  return measure_round_trips(once, budget, 4);
}

RoundTrips socket_round_trip(const CpuPair& cpus, std::size_t size_bytes, nanoseconds budget) {
  SocketPair sockets;
  std::vector<std::byte> bytes(size_bytes, std::byte{1});
  Partner partner(cpus, [&] {
    sockets.close_end(0);
    while (receive_all(sockets.fd(1), bytes.data(), size_bytes) && send_all(sockets.fd(1), bytes.data(), size_bytes)) {
    }
  });
  sockets.close_end(1);  // Else a dead partner would look like a silent one.
  const auto once = [&] {
    if (!send_all(sockets.fd(0), bytes.data(), size_bytes) || !receive_all(sockets.fd(0), bytes.data(), size_bytes)) {
      partner.throw_lost();
    }
  };
  return measure_round_trips(once, budget, 4);
}

double socket_messages_per_second(const CpuPair& cpus, std::size_t size_bytes, nanoseconds budget) {
  SocketPair sockets;
  std::vector<std::byte> bytes(size_bytes, std::byte{1});
  std::vector<std::byte> read_buffer(std::max<std::size_t>(size_bytes, std::size_t{256} << 10));
  Partner partner(cpus, [&] {
    sockets.close_end(0);
    ssize_t got = 0;
    while ((got = ::recv(sockets.fd(1), read_buffer.data(), read_buffer.size(), 0)) > 0 ||
           (got < 0 && errno == EINTR)) {
    }
    send_all(sockets.fd(1), bytes.data(), 1);  // Everything has arrived.
  });
  sockets.close_end(1);
  const auto send_for = [&](nanoseconds duration) {
    std::uint64_t count = 0;
    for (const auto begin = Clock::now(); Clock::now() - begin < duration;) {
      for (int i = 0; i < 16; ++i, ++count) {
        if (!send_all(sockets.fd(0), bytes.data(), size_bytes)) partner.throw_lost();
      }
    }
    return count;
  };
  send_for(budget / 10);
  // The warm-up's last messages may still be under way when the clock starts; a socket's buffer bounds them, and as
  // many are waited for at the end.
  const auto begin = Clock::now();
  const std::uint64_t count = send_for(budget - budget / 10);
  shutdown(sockets.fd(0), SHUT_WR);
  std::byte done{};
  if (!receive_all(sockets.fd(0), &done, 1)) partner.throw_lost();
  return static_cast<double>(count) / std::chrono::duration<double>(Clock::now() - begin).count();
}

std::string CopyGeometry::text() const {
  const bool whole_mib = chunk_bytes % (std::size_t{1} << 20) == 0;
  return std::to_string(chunk_count) + " x " + std::to_string(chunk_bytes >> (whole_mib ? 20 : 10)) +
         (whole_mib ? " MiB" : " KiB");
}

double copy_bytes_per_second(const CpuPair& cpus, CopyGeometry geometry, nanoseconds budget) {
  constexpr std::size_t kPieceBytes = std::size_t{16} << 10;  // The source stays in the first-level cache.
  if (geometry.chunk_count == 0 || geometry.chunk_bytes == 0 || geometry.chunk_bytes % kPieceBytes != 0) {
    throw std::invalid_argument("a copy geometry needs chunks of whole 16 KiB pieces, and at least one");
  }
  const std::size_t flags_bytes = geometry.chunk_count * sizeof(FlagLine);
  const std::size_t data_offset = (flags_bytes + 4095) / 4096 * 4096;
  const SharedMemory memory(data_offset + geometry.chunk_count * geometry.chunk_bytes);
  // A flag counts up: 2 x lap + 1 when the sender has filled the chunk, 2 x lap + 2 when the receiver has read it.
  auto* const flags = memory.at<FlagLine>();
  const auto chunk = [&](std::size_t index) {
    return memory.at<std::byte>(data_offset + index * geometry.chunk_bytes);
  };

  Partner partner(cpus, [&] {
    std::uint64_t sum = 0;
    for (std::uint64_t lap = 0;; ++lap) {
      for (std::size_t i = 0; i < geometry.chunk_count; ++i) {
        auto& flag = flags[i].value;
        poll_forever(cpus.pinned, [&] { return flag.load(std::memory_order_acquire) == 2 * lap + 1; });
        sum += read_every_line(chunk(i), geometry.chunk_bytes);
        asm volatile("" : : "r"(sum) : "memory");
        flag.store(2 * lap + 2, std::memory_order_release);
      }
    }
  });

  const std::vector<std::byte> source(kPieceBytes, std::byte{1});
  std::uint64_t lap = 0;
  const auto send_lap = [&] {
    for (std::size_t i = 0; i < geometry.chunk_count; ++i) {
      auto& flag = flags[i].value;
      partner.poll_until([&] { return flag.load(std::memory_order_acquire) == 2 * lap; });
      for (std::size_t done = 0; done < geometry.chunk_bytes; done += kPieceBytes) {
        std::memcpy(chunk(i) + done, source.data(), kPieceBytes);
      }
      flag.store(2 * lap + 1, std::memory_order_release);
    }
    ++lap;
  };
  const auto wait_until_read = [&] {
    for (std::size_t i = 0; i < geometry.chunk_count; ++i) {
      partner.poll_until([&] { return flags[i].value.load(std::memory_order_acquire) == 2 * lap; });
    }
  };

  // Two laps at least: the first meets page faults on both sides.
  for (const auto begin = Clock::now(); lap < 2 || Clock::now() - begin < budget / 10;) send_lap();
  wait_until_read();
  const std::uint64_t warm_up_laps = lap;
  const auto begin = Clock::now();
  do {
    send_lap();
  } while (Clock::now() - begin < budget - budget / 10);
  wait_until_read();
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  const std::size_t lap_bytes = geometry.chunk_count * geometry.chunk_bytes;
  return static_cast<double>((lap - warm_up_laps) * lap_bytes) / seconds;
}

std::vector<CopyGeometry> copy_geometries() {
  constexpr std::size_t kMiB = std::size_t{1} << 20;
  return {{kMiB / 16, 64}, {kMiB, 4}, {kMiB, 8}, {4 * kMiB, 2}};
}

CopyGeometry choose_copy_geometry(const CpuPair& cpus, int rounds, nanoseconds budget_each) {
  const auto geometries = copy_geometries();
  std::vector<std::vector<double>> rates(geometries.size());
  for (int round = 0; round < std::max(rounds, 1); ++round) {
    for (std::size_t i = 0; i < geometries.size(); ++i) {
      rates[i].push_back(copy_bytes_per_second(cpus, geometries[i], budget_each));
    }
  }
  std::size_t best = 0;
  for (std::size_t i = 1; i < geometries.size(); ++i) {
    if (*median(rates[i]) > *median(rates[best])) best = i;
  }
  return geometries[best];
}

}  // namespace cdmf::ipc::cli
