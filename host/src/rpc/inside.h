#pragma once
// rpc/inside.h: lets a proxy or stub know that the calling thread is already inside it: in one of its callbacks, or in
// a call of the program that has led to one. Such a caller must not wait for what only the interrupted call can do, and
// may destroy the object it is called by.
#include <memory>

namespace cdmf::ipc::rpc {

/// One visit of this thread to a core, on the stack.
class Inside {
 public:
  explicit Inside(const void* core) noexcept : core_(core), outer_(innermost_) { innermost_ = this; }
  ~Inside() { innermost_ = outer_; }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

  [[nodiscard]] static bool is_inside(const void* core) noexcept { return outermost(core) != nullptr; }

  /// Keeps the core for as long as this thread is in it. False: it is not; the caller is the last to use it.
  static bool keep(const std::shared_ptr<void>& core) {
    Inside* visit = outermost(core.get());
    if (visit == nullptr) return false;
    visit->kept_ = core;
    return true;
  }

 private:
  static Inside* outermost(const void* core) noexcept {
    Inside* found = nullptr;
    for (Inside* visit = innermost_; visit != nullptr; visit = visit->outer_) {
      if (visit->core_ == core) found = visit;
    }
    return found;
  }

  static inline thread_local Inside* innermost_ = nullptr;
  const void* const core_;
  Inside* const outer_;
  std::shared_ptr<void> kept_;
};

}  // namespace cdmf::ipc::rpc
