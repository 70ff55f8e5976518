#pragma once
// c_driver.h: a driver behind its C table, with the few lines every test of a driver needs around it.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <string>
#include <string_view>

#include "ipc/driver.h"
#include "ipc/plugin_abi.h"
#include "ipc/property.h"

namespace cdmf::ipc::test {

inline constexpr std::chrono::seconds kWatchdog{30};

[[nodiscard]] inline std::uint64_t in(std::chrono::nanoseconds time) {
  return monotonic_now_ns() + static_cast<std::uint64_t>(time.count());
}

/// A view, copied.
struct Event {
  std::uint32_t kind = UINT32_MAX;  ///< UINT32_MAX: the watchdog ended the wait
  cdmf_peer peer = CDMF_NO_PEER;
  std::string content;
  cdmf_status reason = CDMF_OK;
  std::uint64_t lost = 0;
  std::uint64_t timestamp_us = 0;

  [[nodiscard]] bool is(std::uint32_t wanted) const { return kind == wanted; }
  [[nodiscard]] bool is_message(std::string_view wanted) const {
    return kind == CDMF_VIEW_MESSAGE && content == wanted;
  }
};

class CDriver {
 public:
  CDriver(const cdmf_plugin& plugin, cdmf_role role, const std::string& endpoint,
          const std::map<std::string, std::string>& options = {}, std::uint64_t max_message_size = 65536) {
    const Settings settings = make_settings(plugin, options);
    EXPECT_TRUE(settings.problems.empty()) << settings.problems.front();
    cdmf_config config{};
    config.struct_size = sizeof config;
    config.role = role;
    config.endpoint = endpoint.c_str();
    config.max_message_size = max_message_size;
    config.frame_size_max = max_message_size + CDMF_FRAME_OVERHEAD_MAX;
    config.settings = settings.rows.data();
    config.setting_count = settings.rows.size();
    created = plugin.create(nullptr, &config, &driver_, clear());
  }
  ~CDriver() { destroy(); }
  CDriver(const CDriver&) = delete;
  CDriver& operator=(const CDriver&) = delete;

  void destroy() {
    if (driver_.self != nullptr) driver_.ops->destroy(driver_.self);
    driver_ = {};
  }

  [[nodiscard]] const cdmf_driver_ops& ops() const { return *driver_.ops; }
  [[nodiscard]] void* self() const { return driver_.self; }

  cdmf_status open() { return ops().open(self(), clear()); }
  void close() { ops().close(self()); }
  cdmf_status attach(std::chrono::nanoseconds patience = kWatchdog) {
    return ops().attach(self(), in(patience), &server, clear());
  }
  [[nodiscard]] cdmf_info info() const {
    cdmf_info info{};
    info.struct_size = sizeof info;
    ops().describe(self(), &info);
    return info;
  }

  cdmf_status claim(cdmf_peer peer, std::size_t size, cdmf_loan& loan) {
    return ops().claim(self(), peer, size, &loan);
  }
  /// One claim, copy and commit; BUFFER_FULL is returned, not waited for.
  cdmf_status put(cdmf_peer peer, std::string_view content, bool flush = true) {
    cdmf_loan loan{};
    if (const cdmf_status status = claim(peer, content.size(), loan); status != CDMF_OK) return status;
    std::memcpy(loan.memory, content.data(), content.size());
    return ops().commit(self(), &loan, content.size(), flush ? 1 : 0);
  }
  /// put() that waits for room.
  cdmf_status send(cdmf_peer peer, std::string_view content) {
    const std::uint64_t deadline = in(kWatchdog);
    for (;;) {
      const cdmf_status status = put(peer, content);
      if (status != CDMF_BUFFER_FULL) return status;
      const cdmf_status waited = ops().await_space(self(), peer, content.size(), deadline);
      if (waited != CDMF_OK) return waited;
    }
  }
  cdmf_status flush(cdmf_peer peer, std::uint64_t deadline = kNoWait) { return ops().flush(self(), peer, deadline); }

  /// What a burst of one brings now; kind UINT32_MAX when there is nothing.
  Event poll() {
    cdmf_view view{};
    Event event;
    if (ops().receive_burst(self(), &view, 1) == 0) return event;
    event.kind = view.kind;
    event.peer = view.peer;
    event.reason = view.reason;
    event.lost = view.lost;
    event.timestamp_us = view.timestamp_us;
    if (view.kind == CDMF_VIEW_MESSAGE) {
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view.frame) % CDMF_FRAME_ALIGNMENT, 0u);
      event.content.assign(static_cast<const char*>(view.frame), view.size);
    }
    ops().release_burst(self());
    return event;
  }
  /// The next view, waited for.
  Event next(std::chrono::nanoseconds patience = kWatchdog) {
    const std::uint64_t deadline = in(patience);
    for (;;) {
      Event event = poll();
      if (event.kind != UINT32_MAX) return event;
      if (ops().await_messages(self(), deadline) == CDMF_TIMEOUT) return event;
    }
  }

  cdmf_status created = CDMF_INTERNAL_ERROR;
  cdmf_peer server = CDMF_NO_PEER;  ///< what attach() said
  cdmf_error error{};               ///< text of the last call that has one

 private:
  cdmf_error* clear() {
    error = {};
    error.struct_size = sizeof error;
    return &error;
  }

  cdmf_driver driver_{};
};

/// `size` bytes that depend on `seed`, so that a frame in the wrong place is noticed.
[[nodiscard]] inline std::string pattern(std::size_t size, std::uint64_t seed) {
  std::string text(size, '\0');
  std::uint64_t state = seed * 0x9e3779b97f4a7c15u + size;
  for (char& byte : text) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<char>(state >> 56);
  }
  return text;
}

}  // namespace cdmf::ipc::test
