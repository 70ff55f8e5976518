#pragma once
// rpc/stub_core.h: what a ServiceStub is inside; outlives one that is destroyed in its own handler, and what is
// deferred.
#include <array>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <shared_mutex>

#include "ipc/service_stub.h"
#include "rpc/count.h"
#include "rpc/inside.h"
#include "rpc/method_numbers.h"
#include "rpc/wire.h"
#include "rpc/worker_pool.h"

namespace cdmf::ipc::rpc {

struct Method {
  std::string name;
  ServiceStub::Handler handler;
  RunOn run_on = RunOn::RECEIVER;
  std::uint8_t number = 0;  // Of who receives; 0: nobody has asked for it, or there is none left.
  Count calls;              // By who receives.
  Count errors;             // By who runs it.
};

class StubCore : public std::enable_shared_from_this<StubCore> {
 public:
  StubCore(std::unique_ptr<Transport> owned, Transport& transport, StubOptions options);

  TransportResult<> on(std::string method, ServiceStub::Handler handler, RunOn run_on);
  TransportResult<> start();
  std::size_t poll(std::size_t limit);
  TransportResult<> serve();
  TransportResult<> await(std::chrono::nanoseconds timeout);
  TransportResult<> stop(std::chrono::nanoseconds drain);
  [[nodiscard]] StubStats stats() const;
  [[nodiscard]] Transport& transport() const noexcept { return transport_; }
  [[nodiscard]] bool forked() const noexcept;

  /// Whom an answer goes to.
  struct Caller {
    PeerId peer = kNoPeer;
    std::uint64_t id = 0;
    bool one_way = false;
    std::uint8_t number = 0;  // Of the method, for a caller that asked for it.
  };
  TransportResult<> reply(const Caller& caller, std::span<const std::byte> payload);
  TransportResult<> fail(const Caller& caller, std::uint32_t code, std::string_view text);
  TransportResult<> refuse(const Caller& caller, Refusal refusal, std::string_view text);
  /// One of these from a thread that is not the receiver's: the stub may have ended.
  template <class Answer>
  TransportResult<> answer_elsewhere(Answer&& answer);
  void call_deferred() noexcept { open_.fetch_add(1, std::memory_order_relaxed); }
  void deferred_ended() noexcept;
  [[nodiscard]] std::string identity_of(PeerId peer) const;

 private:
  class Visit;

  void attach();
  void on_message(const MessageView& message);
  void on_peer(const PeerEvent& event);
  [[nodiscard]] Method* find(std::string_view name);
  [[nodiscard]] Method* method_of(const MessageView& request);
  [[nodiscard]] Method* find_by_number(std::uint8_t number);
  [[nodiscard]] std::uint8_t number_to_tell(Method& method, const MessageView& request);
  void refuse_unknown_method(const MessageView& request);
  void run(Method& method, IncomingCall& call);
  void run_on_pool(Method& method, const MessageView& request, std::uint64_t deadline_ns);
  void run_job(WorkerPool::Job& job);
  [[nodiscard]] std::uint64_t deadline_of(const MessageView& request) noexcept;
  void introspect(const Caller& caller);
  TransportResult<> send(const Caller& caller, MessageView& answer);
  void answer_lost(const Caller& caller, const TransportResult<>& sent);
  std::size_t receive(std::size_t limit);
  void wait_for_open_calls(std::chrono::steady_clock::time_point deadline);
  std::size_t finish_stop(std::chrono::steady_clock::time_point deadline);
  [[nodiscard]] bool take_turn();
  void give_turn_back();

  const std::unique_ptr<Transport> owned_;
  Transport& transport_;
  const StubOptions options_;
  const int pid_;
  bool polled_ = false;
  bool exclusive_ = false;  // Receive::POLL and Senders::ONE: one thread does everything.

  // Constant after start().
  std::map<std::string, Method, std::less<>> methods_;
  std::unique_ptr<WorkerPool> pool_;
  bool started_ = false;

  // Of who receives.
  Method* last_method_ = nullptr;
  std::array<Method*, kMethodNumberMax + 1> by_number_{};  // Filled as numbers are told and used.
  std::uint64_t burst_ns_ = 0;  // When the burst came that is being handled; 0: not looked at yet.
  std::atomic<bool> batching_{false};
  std::atomic<bool> receiving_{false};  // Receive::POLL: some thread has the turn.
  std::atomic<bool> stopping_{false};
  std::atomic<bool> ended_{false};
  std::atomic<bool> stop_later_{false};
  std::shared_mutex
      end_mutex_;  // Shared: answering from another thread. Exclusive: the transport is not used after it.
  mutable std::mutex identities_mutex_;
  std::map<PeerId, std::string> identities_;  // Of peers that have one.
  std::mutex open_mutex_;
  std::condition_variable open_changed_;

  alignas(64) Count replies_;
  Count application_errors_;
  Count refused_;
  Count overloaded_;
  Count too_late_;
  Count one_way_;
  Count answers_lost_;
  std::atomic<std::uint64_t> open_{0};
};

/// A call of the program, or one of its handlers, on this thread.
class StubCore::Visit {
 public:
  explicit Visit(StubCore& core) noexcept : core_(core), nested_(Inside::is_inside(&core)), inside_(&core) {}
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;
  ~Visit() {
    if (!nested_ && core_.stop_later_.load(std::memory_order_relaxed))
      (void)core_.finish_stop(std::chrono::steady_clock::now());
  }
  [[nodiscard]] bool nested() const noexcept { return nested_; }

 private:
  StubCore& core_;
  const bool nested_;
  Inside inside_;  // Gives up the core last.
};

template <class Answer>
TransportResult<> StubCore::answer_elsewhere(Answer&& answer) {
  const Visit visit(*this);  // What is told of a lost answer may stop the stub: when the lock is free again.
  std::shared_lock<std::shared_mutex> lock;
  // With Senders::ONE it is the receiver's thread, which does not end the transport behind its own back.
  if (!exclusive_) lock = std::shared_lock(end_mutex_);
  if (ended_) return {TransportError::CONNECTION_CLOSED, "the stub that this call came to has ended"};
  return answer();
}

}  // namespace cdmf::ipc::rpc
