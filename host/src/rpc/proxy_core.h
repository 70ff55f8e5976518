#pragma once
// rpc/proxy_core.h: what a ServiceProxy is inside; outlives one that is destroyed in its own callback.
//
// The calls that have not ended are in pending_; whoever takes a call out of it ends it, in finish(). Calls are entered
// there before their request is sent, so that no answer and no end of the link can miss them. A link that ends does so
// behind the sends it has accepted: with Senders::MANY by the sender lock that the Transport takes after forgetting the
// peer, with Receive::POLL and Senders::ONE because it is all one thread. With Receive::THREAD and Senders::ONE a call
// may be entered just behind that look; then its deadline ends it.
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "ipc/service_proxy.h"
#include "rpc/count.h"
#include "rpc/inside.h"
#include "rpc/latency_counts.h"
#include "rpc/pending_calls.h"
#include "rpc/waiter.h"

namespace cdmf::ipc::rpc {

/// How exactly the deadlines of asynchronous calls are kept.
inline constexpr std::chrono::nanoseconds kDeadlineTick = std::chrono::milliseconds(5);

class ProxyCore : public std::enable_shared_from_this<ProxyCore> {
 public:
  ProxyCore(std::unique_ptr<Transport> owned, Transport& transport, ProxyOptions options);

  void attach();
  TransportResult<> start();
  CallResult<void> call(std::string_view method, std::span<const std::byte> request, ServiceProxy::Reader reader,
                        const CallOptions& options);
  CallId call_async(std::string_view method, std::span<const std::byte> request, CallCallback&& callback,
                    const CallOptions& options);
  TransportResult<> call_one_way(std::string_view method, std::span<const std::byte> request,
                                 const CallOptions& options);
  bool cancel(CallId id);
  std::size_t poll(std::size_t limit);
  TransportResult<> await(std::chrono::nanoseconds timeout);
  void stop();
  [[nodiscard]] ProxyStats stats() const;
  [[nodiscard]] Transport& transport() const noexcept { return transport_; }
  [[nodiscard]] bool forked() const noexcept;
  /// Whether no other thread may end a call, and with it the proxy, while this one is still sending it.
  [[nodiscard]] bool exclusive() const noexcept { return exclusive_; }

  /// A call of the program, or one of its callbacks, on this thread.
  class Visit;

 private:
  using Call = PendingCalls::Call;

  [[nodiscard]] static bool allowed(const CallOptions& options, bool waits_inside) noexcept;
  [[nodiscard]] static CallReply not_allowed(bool waits_inside) noexcept;
  [[nodiscard]] std::chrono::nanoseconds timeout_of(const CallOptions& options) const noexcept;
  [[nodiscard]] CallReply refusal() const noexcept;
  using Method = LearntMethods::Method;
  TransportResult<> send(MessageView& message, Method* method, const CallOptions& options, bool flush,
                         std::uint64_t& deadline_ns, bool inside);
  TransportResult<> send_between_replies(const MessageView& message, SendOptions options, std::uint64_t deadline_ns);
  void wait_parked(Waiter& waiter, CallId id, std::uint64_t deadline_ns);
  void wait_polling(Waiter& waiter, CallId id, std::chrono::nanoseconds timeout, std::uint64_t deadline_ns);
  void receive_until(Waiter& waiter, CallId id, std::chrono::nanoseconds timeout, std::uint64_t deadline_ns);
  void give_up(Waiter& waiter, CallId id, TransportError error, std::string_view text);
  std::size_t receive(std::size_t limit);
  void receive_if_nobody_does();

  void on_message(const MessageView& message);
  void on_peer(const PeerEvent& event);
  static void learn_number(const Call& call, const MessageView& reply) noexcept;
  void finish_with_reply(Call& call, std::span<const std::byte> payload);
  void finish(Call& call, const CallReply& reply);
  void finish(CallCallback& callback, const CallReply& reply);
  void run(CallCallback& callback, const CallReply& reply) noexcept;
  void count(const CallReply& reply) noexcept;
  void expire(std::uint64_t now_ns);
  void expire_if_due();
  [[nodiscard]] std::uint64_t start_time() noexcept;

  void wake_timer();
  void timer_loop();
  void end_timer();
  void finish_stop();

  const std::unique_ptr<Transport> owned_;
  Transport& transport_;
  const ProxyOptions options_;
  const bool polled_;
  const bool exclusive_;  // Receive::POLL and Senders::ONE: one thread at a time does everything.
  const TimeLeft default_time_left_;
  const int pid_;

  PendingCalls pending_;
  LearntMethods methods_;
  Turn turn_;
  std::atomic<bool> stopped_{false};
  std::atomic<bool> stop_later_{false};
  std::atomic<bool> async_used_{false};
  std::uint64_t last_expiry_ns_ = 0;  // Of who receives.

  // Receive::THREAD: ends asynchronous calls whose time is up.
  std::mutex timer_mutex_;
  std::condition_variable timer_changed_;
  std::thread timer_;
  bool timer_ending_ = false;
  std::atomic<bool> timer_dozes_{true};

  // Each counted by whoever ends a call.
  alignas(64) Count replies_;
  Count application_errors_;
  Count not_sent_;
  Count unknown_;
  Count timeouts_;
  Count cancelled_;
  Count one_way_sent_;
  Count one_way_not_sent_;
  Count late_replies_;
  Count forged_replies_;
  Count callback_errors_;
  LatencyCounts latencies_;
};

class ProxyCore::Visit {
 public:
  explicit Visit(ProxyCore& core) noexcept : core_(core), nested_(Inside::is_inside(&core)), inside_(&core) {}
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;
  ~Visit() {
    if (!nested_ && core_.stop_later_.load(std::memory_order_relaxed)) core_.finish_stop();
  }
  [[nodiscard]] bool nested() const noexcept { return nested_; }

 private:
  ProxyCore& core_;
  const bool nested_;
  Inside inside_;  // Gives up the core last.
};

}  // namespace cdmf::ipc::rpc
