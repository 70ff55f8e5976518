#include "link.h"

#include <chrono>
#include <utility>

#include "ipc/driver.h"

namespace cdmf::ipc::loopback {
namespace {

std::uint64_t wall_clock_us() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count());
}

}  // namespace

Link::Link(LinkLimits limits, std::shared_ptr<Alarm> server, std::shared_ptr<Alarm> client) : limits_(limits) {
  direction(Side::kClient).receiver = std::move(server);
  direction(Side::kServer).receiver = std::move(client);
}

cdmf_status Link::claim(Side from, std::size_t size, Frame& frame) {
  const std::lock_guard lock(mutex_);
  Direction& out = direction(from);
  if (end_ != CDMF_OK) return end_;
  if (size == 0) return CDMF_INVALID_ARGUMENT;
  if (size > limits_.frame_size_max) return CDMF_BUFFER_OVERFLOW;
  if (out.claimed) return CDMF_RESOURCE_EXHAUSTED;
  if (size > limits_.queue_bytes - out.used) {
    publish(out);  // Else a sender that never flushes would wait for room that only its own batch takes up.
    return CDMF_BUFFER_FULL;
  }
  frame.bytes = std::make_unique_for_overwrite<std::byte[]>(size);
  frame.size = size;
  out.used += size;
  out.claimed = true;
  return CDMF_OK;
}

cdmf_status Link::commit(Side from, Frame frame, std::size_t size, bool flush) {
  const std::lock_guard lock(mutex_);
  Direction& out = direction(from);
  out.claimed = false;
  const bool accepted = end_ == CDMF_OK && size != 0 && size <= frame.size;
  out.used -= accepted ? frame.size - size : frame.size;
  out.room.notify_all();
  if (end_ != CDMF_OK) return end_;
  if (!accepted) return CDMF_INVALID_ARGUMENT;
  frame.size = size;
  out.frames.push_back(std::move(frame));
  if (flush) publish(out);
  return CDMF_OK;
}

void Link::abort(Side from, const Frame& frame) {
  const std::lock_guard lock(mutex_);
  Direction& out = direction(from);
  out.claimed = false;
  out.used -= frame.size;
  out.room.notify_all();
}

cdmf_status Link::flush(Side from) {
  const std::lock_guard lock(mutex_);
  if (end_ != CDMF_OK) return end_;
  publish(direction(from));
  return CDMF_OK;
}

void Link::publish(Direction& out) {
  if (out.visible == out.frames.size()) return;
  const std::uint64_t now_us = wall_clock_us();
  for (std::size_t i = out.visible; i < out.frames.size(); ++i) out.frames[i].timestamp_us = now_us;
  out.visible = out.frames.size();
  out.receiver->ring();
}

cdmf_status Link::await_space(Side from, std::size_t size, std::uint64_t deadline,
                              const std::atomic<std::uint64_t>& interrupts, std::uint64_t interrupts_before) {
  std::unique_lock lock(mutex_);
  Direction& out = direction(from);
  if (size > limits_.frame_size_max) return CDMF_BUFFER_OVERFLOW;
  const auto decided = [&] {
    return end_ != CDMF_OK || size <= limits_.queue_bytes - out.used || interrupts.load() != interrupts_before;
  };
  if (deadline == kForever) {
    out.room.wait(lock, decided);
  } else {
    const std::chrono::steady_clock::time_point until{std::chrono::nanoseconds(deadline)};
    if (!out.room.wait_until(lock, until, decided)) return CDMF_TIMEOUT;
  }
  if (end_ != CDMF_OK) return end_;
  return interrupts.load() != interrupts_before ? CDMF_INTERRUPTED : CDMF_OK;
}

void Link::wake_waiters(Side from) {
  const std::lock_guard lock(
      mutex_);  // A waiter between its look and its sleep holds the mutex; it must not be missed.
  direction(from).room.notify_all();
}

Link::Taken Link::take(Side to, Frame& frame) {
  const std::lock_guard lock(mutex_);
  Direction& in = direction(other(to));
  if (in.visible == 0) return end_ == CDMF_OK ? Taken::kNothing : Taken::kEnded;
  frame = std::move(in.frames.front());
  in.frames.pop_front();
  --in.visible;
  return Taken::kFrame;
}

bool Link::receivable(Side to) {
  const std::lock_guard lock(mutex_);
  return end_ != CDMF_OK || direction(other(to)).visible != 0;
}

void Link::give_back(Side from, std::size_t bytes, bool was_held) {
  const std::lock_guard lock(mutex_);
  Direction& in = direction(from);
  in.used -= bytes;
  if (was_held) in.held -= bytes;
  in.room.notify_all();
}

bool Link::hold(Side from, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  Direction& in = direction(from);
  if (in.held + bytes > limits_.queue_bytes / 2) return false;
  in.held += bytes;
  return true;
}

void Link::end(Side by, cdmf_status reason) {
  const std::lock_guard lock(mutex_);
  if (end_ != CDMF_OK) return;
  end_ = reason == CDMF_OK ? CDMF_CONNECTION_CLOSED : reason;
  for (const Side from : {Side::kServer, Side::kClient}) {
    Direction& out = direction(from);
    const std::size_t kept = from == by ? out.visible : 0;
    lost_[static_cast<unsigned>(from)] += out.frames.size() - kept;   // Accepted from the program of this side.
    if (from != by) lost_[static_cast<unsigned>(by)] += out.visible;  // Had arrived at the side that ends.
    for (std::size_t i = kept; i < out.frames.size(); ++i) out.used -= out.frames[i].size;
    out.frames.resize(kept);
    out.visible = kept;
    out.room.notify_all();
    out.receiver->ring();
  }
}

cdmf_status Link::end_reason() {
  const std::lock_guard lock(mutex_);
  return end_;
}

std::uint64_t Link::lost(Side side) {
  const std::lock_guard lock(mutex_);
  return lost_[static_cast<unsigned>(side)];
}

}  // namespace cdmf::ipc::loopback
