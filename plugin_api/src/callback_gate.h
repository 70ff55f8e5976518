#pragma once
// callback_gate.h: lets one thread at a time run callbacks, and lets that thread recognise itself.
#include <atomic>
#include <mutex>
#include <thread>

namespace cdmf::ipc {

class CallbackGate {
 public:
  /// Whether the caller is inside a callback of this gate.
  [[nodiscard]] bool inside() const noexcept {
    // Relaxed: only the own id matters, and a thread sees its own stores.
    return runner_.load(std::memory_order_relaxed) == std::this_thread::get_id();
  }

  /// Waits for the callbacks of other threads; re-entered by a thread that is inside, it does nothing.
  class Pass {
   public:
    explicit Pass(CallbackGate& gate) : gate_(gate), outermost_(!gate.inside()) {
      if (!outermost_) return;
      gate_.mutex_.lock();
      gate_.runner_.store(std::this_thread::get_id(), std::memory_order_relaxed);
    }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;
    ~Pass() {
      if (!outermost_) return;
      gate_.runner_.store(std::thread::id{}, std::memory_order_relaxed);
      gate_.mutex_.unlock();
    }

   private:
    CallbackGate& gate_;
    bool outermost_;
  };

 private:
  std::mutex mutex_;
  std::atomic<std::thread::id> runner_{};
};

}  // namespace cdmf::ipc
