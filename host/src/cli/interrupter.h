#pragma once
// cli/interrupter.h: lets the watcher of signals end a Transport's wait, without knowing how long the Transport lives.
#include <mutex>

#include "ipc/transport.h"

namespace cdmf::ipc::cli {

class Interrupter {
 public:
  /// Names the Transport to interrupt for a scope. Make it after the Transport, so that it ends before.
  class Scope {
   public:
    Scope(Interrupter& interrupter, Transport& transport) : interrupter_(interrupter) { interrupter_.set(&transport); }
    ~Scope() { interrupter_.set(nullptr); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Interrupter& interrupter_;
  };

  /// Interrupts the Transport of the scope. returns  false when there is none now. [any thread]
  bool interrupt() {
    const std::lock_guard lock(mutex_);
    if (transport_ != nullptr) transport_->interrupt();
    return transport_ != nullptr;
  }

 private:
  void set(Transport* transport) {
    const std::lock_guard lock(mutex_);
    transport_ = transport;
  }

  std::mutex mutex_;
  Transport* transport_ = nullptr;
};

}  // namespace cdmf::ipc::cli
