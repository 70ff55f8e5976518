#pragma once
// counters.h: the numbers behind TransportStats.
#include <atomic>
#include <cstdint>
#include <mutex>

#include "ipc/result.h"
#include "ipc/stats.h"

namespace cdmf::ipc {

/// A counter that one thread at a time adds to and any thread reads. Load and store instead of fetch_add: no locked
/// instruction per message. Relaxed: a count orders nothing.
class Counter {
 public:
  void add(std::uint64_t n) noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

class Counters {
 public:
  // Written by whoever may send.
  alignas(64) Counter messages_sent;
  Counter bytes_sent;
  // Written by whoever may receive.
  alignas(64) Counter messages_received;
  Counter bytes_received;
  // Rare; written by any thread.
  alignas(64) std::atomic<std::uint64_t> send_errors{0};
  std::atomic<std::uint64_t> recv_errors{0};

  void record_error(TransportError error, const std::string& text) {
    const std::lock_guard lock(mutex_);
    last_error_ = std::string(to_string(error)) + ": " + text;
    last_error_time_ = std::chrono::system_clock::now();
  }

  [[nodiscard]] TransportStats snapshot(std::uint32_t active_connections) const {
    const std::lock_guard lock(mutex_);
    TransportStats stats = totals();
    stats.messages_sent -= base_.messages_sent;
    stats.messages_received -= base_.messages_received;
    stats.bytes_sent -= base_.bytes_sent;
    stats.bytes_received -= base_.bytes_received;
    stats.send_errors -= base_.send_errors;
    stats.recv_errors -= base_.recv_errors;
    stats.active_connections = active_connections;
    stats.last_error_time = last_error_time_;
    stats.last_error = last_error_;
    return stats;
  }

  /// The counters run on (their writers never read them back); a reset remembers where they stood.
  void reset() {
    const std::lock_guard lock(mutex_);
    base_ = totals();
    last_error_.clear();
    last_error_time_ = {};
  }

 private:
  [[nodiscard]] TransportStats totals() const noexcept {
    TransportStats stats;
    stats.messages_sent = messages_sent.get();
    stats.messages_received = messages_received.get();
    stats.bytes_sent = bytes_sent.get();
    stats.bytes_received = bytes_received.get();
    stats.send_errors = send_errors.load(std::memory_order_relaxed);
    stats.recv_errors = recv_errors.load(std::memory_order_relaxed);
    return stats;
  }

  mutable std::mutex mutex_;
  TransportStats base_;
  std::string last_error_;
  std::chrono::system_clock::time_point last_error_time_{};
};

}  // namespace cdmf::ipc
