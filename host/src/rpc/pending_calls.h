#pragma once
// rpc/pending_calls.h: the calls of one proxy that have not ended yet, in a table of fixed size.
//
// A slot is free, claimed by the caller that fills it, published under the id of its call, or taken by whoever ends
// that call: the receiver of the reply, its caller or the timer when its time is up, cancel(), the end of the link,
// stop(). All of them try to exchange the id for 0, so exactly one ends the call, and it alone may read the slot.
//
// Ids    (generation of the slot << bits | index of the slot) xor a random key of the link. Whoever does not see this
//        link's requests cannot name one, and a slot used again has another id, so that a late reply finds nobody.
// Edges  PUBLISHED  Slot::id store(release) -> take(acquire): what the caller wrote into the slot.
//        RELEASED   free_ exchange(release) -> claim(acquire): the slot may be filled anew.
// close() Takes the whole free list, so that no slot can be claimed any more, and then ends calls until every slot that
//        was claimed before has come back: no call can be published behind its back.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>

#include "ipc/call.h"
#include "rpc/learnt_methods.h"

namespace cdmf::ipc::rpc {

struct Waiter;
using CallCallback = std::function<void(const CallReply&)>;

class PendingCalls {
 public:
  /// What ends with a call. Either waiter or callback.
  struct Call {
    Waiter* waiter = nullptr;
    CallCallback callback{};
    std::uint64_t started_ns = 0;             ///< 0: its latency is not measured
    LearntMethods::Method* method = nullptr;  ///< whose number was asked for
  };
  static constexpr std::uint64_t kNoDeadline = ~std::uint64_t{0} >> 1;
  static constexpr std::size_t kCapacityMax = std::size_t{1} << 20;

  /// capacity  A power of two up to kCapacityMax.
  /// alone     One thread at a time calls anything but in_flight(): nothing is exchanged then, only stored.
  explicit PendingCalls(std::size_t capacity, bool alone = false);

  /// Registers a call. returns its id; 0 when all slots are in use or close() was called, and `call` is untouched.
  /// [any]
  /// timeout_ns  Counted from the first take_expired() on: no clock is read for a call that is answered before.
  [[nodiscard]] std::uint64_t add(Call&& call, std::uint64_t timeout_ns = kNoDeadline) {
    return add(call.waiter, call.callback, call.started_ns, call.method, timeout_ns);
  }
  /// The same, of what lies in different places: put together first, it would be copied once more.
  [[nodiscard]] std::uint64_t add(Waiter* waiter, CallCallback& callback, std::uint64_t started_ns,
                                  LearntMethods::Method* method, std::uint64_t timeout_ns = kNoDeadline);
  /// Ends it, if nobody has: then the caller has `call`, and the slot is free again. [any]
  [[nodiscard]] bool take(std::uint64_t id, Call& call);
  /// Whether this id was given to a call of this link that has ended. Else nobody ever had it. [any]
  [[nodiscard]] bool was_given(std::uint64_t id) const noexcept;

  /// Ends every call whose time is up. [any]
  template <class End>
  void take_expired(std::uint64_t now_ns, End&& end);
  /// Ends every call. [any]
  template <class End>
  void take_all(End&& end);
  /// Ends every call now and for ever. Not from a callback that holds up a claim; there is none. [any]
  template <class End>
  void close(End&& end);

  /// Makes ids of the old link worthless. [any]
  void renew_key() noexcept;
  [[nodiscard]] std::size_t in_flight() const noexcept;
  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }

 private:
  struct alignas(64) Slot {
    std::atomic<std::uint64_t> id{0};
    std::atomic<std::uint64_t> generation{0};  // Written by who claims; read to tell late replies from forged ones.
    std::atomic<std::uint64_t> deadline_ns{kNoDeadline};
    std::atomic<std::uint32_t> next{0};
    Call call;
  };
  static constexpr std::uint64_t kNotBegun = ~kNoDeadline;  // In deadline_ns: what follows is a duration.
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};
  static constexpr std::uint32_t kClosed = kNone - 1;

  /// The word of the free list that follows `head`.
  static constexpr std::uint64_t changed(std::uint64_t head, std::uint32_t index) noexcept {
    return ((head >> 32) + 1) << 32 | index;
  }
  bool exchange_free(std::uint64_t& head, std::uint64_t next, std::memory_order order) noexcept;
  void release(std::uint32_t index) noexcept;
  /// to  Empty: what a swap or an assignment would put back is left out.
  static void move_callback(CallCallback& from, CallCallback& to) noexcept {
    std::destroy_at(&to);
    std::construct_at(&to, std::move(from));
  }

  const std::size_t capacity_;
  const bool alone_;
  const unsigned bits_;
  const std::unique_ptr<Slot[]> slots_;
  std::atomic<std::uint64_t> key_{0};  // Its low bits_ are 0, so that an id shows its slot.
  // Index of the first free slot; above it a count of changes, so that an exchange fails when the list was taken apart
  // and put together again meanwhile.
  alignas(64) std::atomic<std::uint64_t> free_;
  std::atomic<std::size_t> returned_after_close_{0};
};

inline bool PendingCalls::exchange_free(std::uint64_t& head, std::uint64_t next, std::memory_order order) noexcept {
  if (!alone_) return free_.compare_exchange_weak(head, next, order, std::memory_order_relaxed);
  free_.store(next, std::memory_order_relaxed);
  return true;
}

inline std::uint64_t PendingCalls::add(Waiter* waiter, CallCallback& callback, std::uint64_t started_ns,
                                       LearntMethods::Method* method, std::uint64_t timeout_ns) {
  std::uint64_t head = free_.load(std::memory_order_acquire);
  std::uint32_t index;
  do {
    index = static_cast<std::uint32_t>(head);
    if (index >= kClosed) return 0;
    // Another thread may take this slot and change `next` meanwhile; the exchange fails then, as the count has changed.
  } while (!exchange_free(head, changed(head, slots_[index].next.load(std::memory_order_relaxed)),
                          std::memory_order_acquire));  // RELEASED
  Slot& slot = slots_[index];
  slot.call.waiter = waiter;
  slot.call.started_ns = started_ns;
  slot.call.method = method;
  move_callback(callback, slot.call.callback);  // That of a free slot is empty.
  slot.deadline_ns.store(timeout_ns >= kNoDeadline ? kNoDeadline : timeout_ns | kNotBegun, std::memory_order_relaxed);
  std::uint64_t generation = slot.generation.load(std::memory_order_relaxed);
  std::uint64_t id;
  do {
    ++generation;
    id = (generation << bits_ | index) ^ key_.load(std::memory_order_relaxed);
  } while (id == 0);  // 0 says "not in use".
  slot.generation.store(generation, std::memory_order_relaxed);
  slot.id.store(id, std::memory_order_release);  // PUBLISHED
  return id;
}

inline bool PendingCalls::take(std::uint64_t id, Call& call) {
  const auto index = static_cast<std::uint32_t>(id & (capacity_ - 1));
  Slot& slot = slots_[index];
  if (id == 0 || slot.id.load(std::memory_order_relaxed) != id) return false;
  if (alone_) {
    slot.id.store(0, std::memory_order_relaxed);
  } else if (!slot.id.compare_exchange_strong(id, 0, std::memory_order_acquire, std::memory_order_relaxed)) {
    return false;
  }
  call.waiter = slot.call.waiter;
  call.started_ns = slot.call.started_ns;
  call.method = slot.call.method;
  call.callback = nullptr;
  move_callback(slot.call.callback, call.callback);
  release(index);
  return true;
}

inline void PendingCalls::release(std::uint32_t index) noexcept {
  std::uint64_t head = free_.load(std::memory_order_relaxed);
  do {
    if (static_cast<std::uint32_t>(head) == kClosed) {
      returned_after_close_.fetch_add(1, std::memory_order_release);
      return;
    }
    slots_[index].next.store(static_cast<std::uint32_t>(head), std::memory_order_relaxed);
  } while (!exchange_free(head, changed(head, index), std::memory_order_release));  // RELEASED
}

template <class End>
void PendingCalls::take_expired(std::uint64_t now_ns, End&& end) {
  for (std::size_t index = 0; index < capacity_; ++index) {
    Slot& slot = slots_[index];
    const std::uint64_t id = slot.id.load(std::memory_order_acquire);  // PUBLISHED
    if (id == 0) continue;
    // A deadline of a later call in this slot may be read here; then the id is another one and take() fails, or the
    // exchange gives that call the deadline it is due.
    std::uint64_t deadline_ns = slot.deadline_ns.load(std::memory_order_relaxed);
    if ((deadline_ns & kNotBegun) != 0) {
      const std::uint64_t timeout_ns = deadline_ns & ~kNotBegun;
      const std::uint64_t begun = timeout_ns > kNoDeadline - now_ns ? kNoDeadline : now_ns + timeout_ns;
      slot.deadline_ns.compare_exchange_strong(deadline_ns, begun, std::memory_order_relaxed);
      continue;
    }
    Call call;
    if (deadline_ns <= now_ns && take(id, call)) end(call);
  }
}

template <class End>
void PendingCalls::take_all(End&& end) {
  for (std::size_t index = 0; index < capacity_; ++index) {
    const std::uint64_t id = slots_[index].id.load(std::memory_order_acquire);  // PUBLISHED
    Call call;
    if (id != 0 && take(id, call)) end(call);
  }
}

template <class End>
void PendingCalls::close(End&& end) {
  std::uint64_t head = free_.load(std::memory_order_relaxed);
  do {
    if (static_cast<std::uint32_t>(head) == kClosed) return;
  } while (!free_.compare_exchange_weak(head, changed(head, kClosed), std::memory_order_acquire));
  std::size_t claimed = capacity_;
  for (auto index = static_cast<std::uint32_t>(head); index != kNone;
       index = slots_[index].next.load(std::memory_order_relaxed)) {
    --claimed;
  }
  while (returned_after_close_.load(std::memory_order_acquire) < claimed) {
    take_all(end);
    if (returned_after_close_.load(std::memory_order_acquire) < claimed) std::this_thread::yield();
  }
}

}  // namespace cdmf::ipc::rpc
