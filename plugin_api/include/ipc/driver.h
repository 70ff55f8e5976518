#pragma once
// ipc/driver.h: the class a plugin author derives from to write a transport in C++.
// Each method is the function of the same name in ipc/plugin_abi.h; what it must do, may return, and which thread may
// call it stands there, next to cdmf_driver_ops. ../../README.md walks through a complete driver.
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>

#include "ipc/plugin_abi.h"

namespace cdmf::ipc {

/// Nanoseconds of CLOCK_MONOTONIC: the clock of all deadlines.
[[nodiscard]] inline std::uint64_t monotonic_now_ns() noexcept {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(now.tv_nsec);
}
inline constexpr std::uint64_t kNoWait = 0;
inline constexpr std::uint64_t kForever = UINT64_MAX;

/// Milliseconds for poll() and epoll_wait() until a deadline: rounded up, so that no wait ends before its deadline;
/// 0 for kNoWait and for what has passed.
[[nodiscard]] inline int poll_timeout_ms(std::uint64_t deadline_ns) noexcept {
  if (deadline_ns == kNoWait) return 0;
  if (deadline_ns == kForever) return -1;
  const std::uint64_t now = monotonic_now_ns();
  if (now >= deadline_ns) return 0;
  const std::uint64_t milliseconds = (deadline_ns - now + 999'999) / 1'000'000;
  return milliseconds > 3'600'000 ? 3'600'000 : static_cast<int>(milliseconds);
}

/// The error text of a call. fail() writes it and returns the status, so that a method ends with one line:
///   return error.fail(CDMF_ENDPOINT_IN_USE, errno, "unix socket \"", path, "\": another server listens there");
class ErrorText {
 public:
  explicit ErrorText(cdmf_error* error) noexcept : error_(error) {}

  /// os_errno 0: no system call is to blame; otherwise its text is appended.
  template <typename... Parts>
  cdmf_status fail(cdmf_status status, int os_errno, const Parts&... parts) {
    std::ostringstream text;
    (text << ... << parts);
    if (os_errno != 0) text << " (" << std::strerror(os_errno) << ')';
    if (error_ != nullptr) {
      error_->os_errno = os_errno;
      std::snprintf(error_->message, sizeof error_->message, "%s", text.str().c_str());
    }
    return status;
  }

 private:
  cdmf_error* error_;
};

/// What the host offers to a driver. Copyable; valid as long as the driver lives.
class PluginHost {
 public:
  explicit PluginHost(const cdmf_host* host) noexcept : host_(host) {}

  /// Writes one line to the host's log: log(CDMF_LOG_WARNING, "peer ", id, " sent ", n, " bytes too many"). [any]
  template <typename... Parts>
  void log(std::uint32_t level, const Parts&... parts) const noexcept {
    if (host_ == nullptr || level < host_->log_level(host_->context)) return;
    try {
      std::ostringstream text;
      (text << ... << parts);
      host_->log(host_->context, level, text.str().c_str(), nullptr, 0);
    } catch (...) {  // Out of memory while logging: the line is lost, the caller is not.
    }
  }

 private:
  const cdmf_host* host_;
};

/// What a driver is made from: the C structure with readable access. Valid while the constructor runs.
class DriverConfig {
 public:
  explicit DriverConfig(const cdmf_config& config) noexcept : config_(config) {}

  [[nodiscard]] bool is_server() const noexcept { return config_.role == CDMF_ROLE_SERVER; }
  [[nodiscard]] const char* endpoint() const noexcept { return config_.endpoint; }
  [[nodiscard]] std::uint64_t max_message_size() const noexcept { return config_.max_message_size; }
  [[nodiscard]] std::uint64_t frame_size_max() const noexcept { return config_.frame_size_max; }
  /// The row of that name; every row of the plugin's own table is there. Throws std::out_of_range for a name that is
  /// not in the table, which is a bug of the plugin.
  [[nodiscard]] const cdmf_setting& setting(std::string_view name) const {
    for (std::size_t i = 0; i < config_.setting_count; ++i) {
      if (name == config_.settings[i].name) return config_.settings[i];
    }
    throw std::out_of_range("no property named " + std::string(name));
  }
  [[nodiscard]] std::int64_t number(std::string_view name) const { return setting(name).number; }
  [[nodiscard]] const char* text(std::string_view name) const { return setting(name).text; }
  [[nodiscard]] bool given(std::string_view name) const { return setting(name).given != 0; }

 private:
  const cdmf_config& config_;
};

/// A transport. The derived class has a constructor (const DriverConfig&, PluginHost) that may throw ConfigError (or
/// any std::exception) and takes no system resource: that is open()'s part. Methods may throw; the SDK turns an
/// exception into CDMF_INTERNAL_ERROR (std::bad_alloc: RESOURCE_EXHAUSTED) and puts its text into the call's error, or
/// into the host's log. Methods of the data path should not throw. The destructor must not.
class Driver {
 public:
  virtual ~Driver() = default;
  Driver() = default;
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  virtual cdmf_status open(ErrorText& error) = 0;
  virtual cdmf_status attach(std::uint64_t deadline, cdmf_peer& peer, ErrorText& error) = 0;

  virtual cdmf_status claim(cdmf_peer peer, std::size_t size, cdmf_loan& loan) = 0;
  virtual cdmf_status commit(const cdmf_loan& loan, std::size_t size, bool flush) = 0;
  virtual void abort(const cdmf_loan& loan) = 0;
  virtual cdmf_status flush(cdmf_peer peer, std::uint64_t deadline) = 0;
  virtual cdmf_status await_space(cdmf_peer peer, std::size_t size, std::uint64_t deadline) = 0;

  virtual std::size_t receive_burst(cdmf_view* views, std::size_t capacity) = 0;
  virtual void release_burst() = 0;
  virtual cdmf_status await_messages(std::uint64_t deadline) = 0;
  /// Only with CDMF_CAP_HOLD.
  virtual cdmf_status hold(cdmf_peer /*peer*/, std::uint64_t /*token*/, std::uint64_t& /*held*/) {
    return CDMF_UNSUPPORTED;
  }
  virtual void unhold(std::uint64_t /*held*/) {}
  /// Only with CDMF_CAP_POLL_FD.
  virtual int poll_fd() { return -1; }
  virtual cdmf_arm_result arm() { return CDMF_READY; }
  virtual void interrupt() = 0;

  virtual cdmf_status disconnect(cdmf_peer peer, cdmf_status reason) = 0;
  virtual void close() = 0;
  virtual void describe(cdmf_info& info) = 0;
  virtual const void* get_extension(const char* /*name*/) { return nullptr; }
};

/// Thrown by a driver's constructor when options contradict each other; the text names them and says what would work.
class ConfigError : public std::exception {
 public:
  template <typename... Parts>
  explicit ConfigError(const Parts&... parts) {
    std::ostringstream text;
    (text << ... << parts);
    text_ = text.str();
  }
  [[nodiscard]] const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

}  // namespace cdmf::ipc
