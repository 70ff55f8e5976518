// The sending side: claim, copy, commit, flush; waiting for room; loans.
#include <algorithm>
#include <bit>

#include "deadline.h"
#include "transport_core.h"

namespace cdmf::ipc {
namespace {

constexpr cdmf_status kNotTried = -1;  // No status of a driver.

/// A frame of a message without extensions, where its bytes are.
inline void point_to(const MessageView& message, cdmf_pieces& frame) noexcept {
  make_frame_header(frame.head, message, message.subject.size(), 0);
  frame.body = message.payload.data();
  frame.body_size = message.payload.size();
  frame.tail = message.subject.data();
  frame.tail_size = message.subject.size();
}

}  // namespace

/// Senders::MANY: one sender at a time. Senders::ONE: nothing.
class TransportCore::SenderLock {
 public:
  explicit SenderLock(TransportCore& core)
      : lock_(core.sender_mutex_, std::defer_lock), many_(core.many_senders_.load(std::memory_order_relaxed)) {
    lock();
  }
  void lock() {
    if (many_) lock_.lock();
  }
  void unlock() {
    if (many_) lock_.unlock();
  }
  [[nodiscard]] bool many() const noexcept { return many_; }
  [[nodiscard]] std::unique_lock<std::mutex>& raw() noexcept { return lock_; }

 private:
  std::unique_lock<std::mutex> lock_;
  const bool many_;
};

/// Whether no driver need be asked about the sizes.
inline bool TransportCore::fits(const MessageView& message) const noexcept {
  return message.payload.size() <= payload_bytes_max_.load(std::memory_order_relaxed) &&
         message.subject.size() <= kSubjectBytesMax;
}

/// After !fits(). SUCCESS: before init() nothing is known to be too large; the send will fail for another reason.
[[gnu::cold]] TransportResult<> TransportCore::refuse(const MessageView& message) {
  const std::uint64_t payload_bytes_max = payload_bytes_max_.load(std::memory_order_relaxed);
  const bool too_large = message.payload.size() > payload_bytes_max && state() != TransportState::UNINITIALIZED;
  if (!too_large && message.subject.size() <= kSubjectBytesMax) return {};
  Status bad;
  if (too_large) {
    bad = {TransportError::BUFFER_OVERFLOW, label() + ": a payload of " + std::to_string(message.payload.size()) +
                                                " bytes is larger than max_message_size (" +
                                                format_size(payload_bytes_max) + "); raise it or split"};
  } else {
    bad = {TransportError::INVALID_MESSAGE, label() + ": a subject of " + std::to_string(message.subject.size()) +
                                                " bytes is longer than " + std::to_string(kSubjectBytesMax)};
  }
  counters_.send_errors.fetch_add(1, std::memory_order_relaxed);
  counters_.record_error(bad.error, bad.error_message);
  return bad;
}

[[gnu::cold]] TransportResult<> TransportCore::send_failed(cdmf_status status, const SendOptions& options,
                                                           std::size_t payload_size) {
  counters_.send_errors.fetch_add(1, std::memory_order_relaxed);
  auto error = to_error(status);
  std::string text;
  if (options.peer == kAllPeers) error = TransportError::UNSUPPORTED;
  switch (error) {
    case TransportError::BUFFER_FULL:
    case TransportError::TIMEOUT:
      return error;  // Ordinary: no text, no record.
    case TransportError::NOT_CONNECTED:
      text = options.peer == kNoPeer
                 ? label() + (state() == TransportState::RECONNECTING ? ": the link is gone, reconnecting"
                                                                      : ": no peer is connected")
                 : label() + ": no peer " + std::to_string(options.peer);
      break;
    case TransportError::INVALID_ARGUMENT:
      text = label() + ": " + std::to_string(peers_.count()) + " peers are connected; say which (SendOptions::peer)";
      break;
    case TransportError::BUFFER_OVERFLOW:
      text = label() + ": the peer takes no payload of " + std::to_string(payload_size) +
             " bytes; the server's max_message_size rules";
      break;
    case TransportError::RESOURCE_EXHAUSTED:
      text = label() + ": out of memory, or this thread holds a Loan to that peer: commit or abort it first";
      break;
    case TransportError::UNSUPPORTED:
      text = label() + (options.peer == kAllPeers ? ": kAllPeers is reserved; send to each of getPeers()"
                                                  : ": this side of the link cannot send");
      break;
    default:
      text = label() + ": " + describe(error);
      break;
  }
  counters_.record_error(error, text);
  return {error, std::move(text)};
}

inline void TransportCore::count_sent(std::size_t messages, std::uint64_t bytes) noexcept {
  counters_.messages_sent.add(messages);
  counters_.bytes_sent.add(bytes);
}

/// Whom a message is for, when anything can be sent.
inline cdmf_status TransportCore::resolve_peer(const SendOptions& options, PeerId& peer) noexcept {
  if (!sendable_.load(std::memory_order_acquire)) return CDMF_NOT_CONNECTED;
  peer = options.peer;
  if (peer == kNoPeer) {
    peer = peers_.sole();
    if (peer == kNoPeer) return peers_.count() > 1 ? CDMF_INVALID_ARGUMENT : CDMF_NOT_CONNECTED;
  }
  return CDMF_OK;
}

/// Gets memory for one frame, without waiting. peer: whom it is for.
inline cdmf_status TransportCore::try_claim(const SendOptions& options, std::size_t size, cdmf_loan& loan,
                                            PeerId& peer) noexcept {
  const cdmf_status status = resolve_peer(options, peer);
  return status == CDMF_OK ? driver_->ops().claim(driver_->self(), peer, size, &loan) : status;
}

/// The same; waits for room, without the lock, as long as the options allow.
inline cdmf_status TransportCore::claim(SenderLock& lock, const SendOptions& options, std::size_t size,
                                        cdmf_loan& loan) {
  PeerId peer = kNoPeer;
  const cdmf_status status = try_claim(options, size, loan, peer);
  if (status == CDMF_OK) [[likely]]
    return CDMF_OK;
  return claim_later(status, lock, options, size, loan, peer);
}

[[gnu::noinline]] cdmf_status TransportCore::claim_later(cdmf_status status, SenderLock& lock,
                                                         const SendOptions& options, std::size_t size, cdmf_loan& loan,
                                                         PeerId peer) {
  if (status != CDMF_BUFFER_FULL && status != CDMF_RESOURCE_EXHAUSTED) return status;
  const std::uint64_t deadline = deadline_after(options.timeout.value_or(config_.send_timeout));
  for (;;) {
    if (status == CDMF_RESOURCE_EXHAUSTED) {
      if (!wait_for_loan(lock, peer, deadline)) return CDMF_RESOURCE_EXHAUSTED;
      if (deadline == kNoWait) return CDMF_BUFFER_FULL;
      if (passed(deadline)) return CDMF_TIMEOUT;
    } else {
      if (deadline == kNoWait) return CDMF_BUFFER_FULL;
      const cdmf_status waited = wait_for_room(lock, peer, size, deadline);
      // An interrupt is meant for close_links(), which has cleared sendable_, or for a receiver: then wait on. So does
      // a TIMEOUT before its time, whatever a driver's clock says.
      if (waited != CDMF_OK && waited != CDMF_INTERRUPTED && waited != CDMF_TIMEOUT) return waited;
      if (passed(deadline)) return CDMF_TIMEOUT;
    }
    status = try_claim(options, size, loan, peer);
    if (status != CDMF_BUFFER_FULL && status != CDMF_RESOURCE_EXHAUSTED) return status;
  }
}

cdmf_status TransportCore::wait_for_room(SenderLock& lock, PeerId peer, std::size_t size, std::uint64_t deadline) {
  waiting_senders_.fetch_add(1);
  lock.unlock();
  // Counted before this look, so that close_links() either sees the count or is seen here.
  cdmf_status status = CDMF_NOT_CONNECTED;
  if (sendable_.load()) status = driver_->ops().await_space(driver_->self(), peer, size, deadline);
  waiting_senders_.fetch_sub(1);
  lock.lock();
  return status;
}

/// The driver says that this peer has an open claim. True: it was another thread's loan, and that has ended or the
/// deadline has passed. False: waiting would be for oneself.
bool TransportCore::wait_for_loan(SenderLock& lock, PeerId peer, std::uint64_t deadline) {
  const auto holder = [&] {
    return std::find_if(open_loans_.begin(), open_loans_.end(),
                        [&](const OpenLoan& open) { return open.driver == driver_.get() && open.peer == peer; });
  };
  if (!lock.many() || holder() == open_loans_.end() || holder()->taker == std::this_thread::get_id()) return false;
  if (deadline == kNoWait) return true;
  const auto ended = [&] { return holder() == open_loans_.end() || !sendable_; };
  while (!ended()) {
    const std::uint64_t now = monotonic_now_ns();
    if (now >= deadline) break;
    loan_ended_.wait_for(lock.raw(), std::chrono::nanoseconds(std::min<std::uint64_t>(deadline - now, 1'000'000'000)));
  }
  return true;
}

/// Hands a whole frame to a driver that takes those. kNotTried: this one does not, or not this frame.
inline cdmf_status TransportCore::try_put(const MessageView& message, bool flush, PeerId peer) noexcept {
  const auto put = driver_->put();
  if (put == nullptr || message.hops != 0) [[unlikely]]
    return kNotTried;
  cdmf_pieces frame;
  point_to(message, frame);
  return put(driver_->self(), peer, &frame, flush ? 1 : 0);
}

/// First the plain case, where with short messages every instruction counts: one thread sends, and there is room.
inline TransportResult<> TransportCore::send(const MessageView& message, const SendOptions& options) {
  cdmf_status status = kNotTried;
  PeerId peer = kNoPeer;
  if (!many_senders_.load(std::memory_order_relaxed) && !forked() && fits(message) &&
      resolve_peer(options, peer) == CDMF_OK) {
    status = try_put(message, options.flush, peer);
    if (status == CDMF_OK) [[likely]] {
      count_sent(1, message.payload.size());
      return {};
    }
  }
  return send_carefully(status, message, options);
}

/// Here, so that the two are one function.
TransportResult<> Transport::send(const MessageView& message, const SendOptions& options) {
  return core_->send(message, options);
}

/// tried: what try_put() said to the only thread that sends.
[[gnu::noinline]] TransportResult<> TransportCore::send_carefully(cdmf_status tried, const MessageView& message,
                                                                  const SendOptions& options) {
  if (forked()) [[unlikely]]
    return {TransportError::UNSUPPORTED, "send() after fork(): make a new Transport in the child"};
  if (!fits(message)) [[unlikely]] {
    if (Status bad = refuse(message); !bad) return bad;
  }
  SenderLock lock(*this);
  PeerId peer = kNoPeer;
  cdmf_status status = resolve_peer(options, peer);
  if (status == CDMF_OK) [[likely]] {
    status = tried == kNotTried ? try_put(message, options.flush, peer) : tried;
    // No room: wait for it. The other outcomes are final, and the same either way.
    if (status != CDMF_OK) [[unlikely]]
      status = send_in_steps(status, lock, message, options, peer);
  }
  if (status != CDMF_OK) [[unlikely]]
    return send_failed(status, options, message.payload.size());
  count_sent(1, message.payload.size());
  return {};
}

/// Hands the first of these, up to a burst, to a driver that takes many frames at once. Returns how many were sent: 0
/// also where send_carefully() must do it.
std::size_t TransportCore::try_put_burst(std::span<const MessageView> messages, const SendOptions& options) noexcept {
  const SenderLock lock(*this);
  PeerId peer = kNoPeer;
  if (resolve_peer(options, peer) != CDMF_OK) return 0;
  const auto put_burst = driver_->put_burst();
  if (put_burst == nullptr) return 0;
  cdmf_pieces frames[Transport::kBurstMax];
  const std::size_t count_max = std::min(messages.size(), Transport::kBurstMax);
  std::size_t count = 0;
  for (; count < count_max && fits(messages[count]) && messages[count].hops == 0; ++count) {
    point_to(messages[count], frames[count]);
  }
  if (count == 0) return 0;
  const bool flush = options.flush && count == messages.size();
  // No more than there were, whatever a plugin says.
  const std::size_t sent = std::min(count, put_burst(driver_->self(), peer, frames, count, flush ? 1 : 0));
  std::uint64_t bytes = 0;
  for (std::size_t i = 0; i < sent; ++i) bytes += frames[i].body_size;
  count_sent(sent, bytes);
  return sent;
}

/// As many at once as go; then one by itself, which waits for room, or says why it is not sent.
TransportResult<std::size_t> TransportCore::send_batch(std::span<const MessageView> messages,
                                                       const SendOptions& options) {
  TransportResult<std::size_t> result;
  std::size_t& sent = result.value;
  while (sent < messages.size()) {
    const std::size_t at_once = forked() ? 0 : try_put_burst(messages.subspan(sent), options);
    sent += at_once;
    if (at_once == Transport::kBurstMax || sent == messages.size()) continue;
    SendOptions alone = options;
    alone.flush = options.flush && sent + 1 == messages.size();
    Status outcome = send_carefully(kNotTried, messages[sent], alone);
    if (!outcome) {
      if (options.flush && sent != 0) (void)flush(options.peer, std::chrono::nanoseconds(0));
      result.error = outcome.error;
      result.error_message = std::move(outcome.error_message);
      break;
    }
    ++sent;
  }
  return result;
}

/// Claims, waiting for room where that is allowed, writes the frame, and commits. status: what a first try came to.
[[gnu::noinline]] cdmf_status TransportCore::send_in_steps(cdmf_status status, SenderLock& lock,
                                                           const MessageView& message, const SendOptions& options,
                                                           PeerId peer) {
  const std::size_t extensions = extension_size(message);
  const std::size_t size = frame_size(message.payload.size(), message.subject.size(), extensions);
  cdmf_loan frame;
  if (status == kNotTried) status = driver_->ops().claim(driver_->self(), peer, size, &frame);
  if (status != CDMF_OK) status = claim_later(status, lock, options, size, frame, peer);
  if (status != CDMF_OK) return status;
  auto* bytes = static_cast<std::byte*>(frame.memory);
  write_frame_header(bytes, message, message.subject.size(), extensions);
  bytes += kFrameHeaderBytes;
  write_extensions(bytes, message);
  bytes += extensions;
  if (!message.payload.empty()) std::memcpy(bytes, message.payload.data(), message.payload.size());
  if (!message.subject.empty()) {
    std::memcpy(bytes + message.payload.size(), message.subject.data(), message.subject.size());
  }
  return driver_->ops().commit(driver_->self(), &frame, size, options.flush ? 1 : 0);
}

TransportResult<Loan> TransportCore::loan(std::size_t payload_size, const LoanOptions& options) {
  if (forked()) return {TransportError::UNSUPPORTED, "loan() after fork(): make a new Transport in the child"};
  if (!std::has_single_bit(options.alignment) || options.alignment > 256) {
    return {TransportError::INVALID_ARGUMENT,
            "alignment " + std::to_string(options.alignment) + " is not a power of two up to 256"};
  }
  MessageView message;
  message.type = options.type;
  message.flags = options.flags;
  message.time_left = options.time_left;
  message.id = options.id;
  message.subject = options.subject;
  message.payload = {static_cast<const std::byte*>(nullptr), payload_size};  // For its size alone.
  if (!fits(message)) {
    if (Status bad = refuse(message); !bad) return {bad.error, std::move(bad.error_message)};
  }
  // Frames are aligned to 16; a padding extension before the payload makes up for the rest.
  const std::size_t padding_max = options.alignment > CDMF_FRAME_ALIGNMENT ? options.alignment : 0;
  SenderLock lock(*this);
  Loan loan;
  const cdmf_status status =
      claim(lock, options.send, frame_size(payload_size, options.subject.size(), padding_max), loan.loan_);
  if (status != CDMF_OK) {
    Status failed = send_failed(status, options.send, payload_size);
    return {failed.error, std::move(failed.error_message)};
  }
  auto* bytes = static_cast<std::byte*>(loan.loan_.memory);
  const auto after_header = reinterpret_cast<std::uintptr_t>(bytes + kFrameHeaderBytes);
  const std::size_t padding = (options.alignment - after_header % options.alignment) % options.alignment;
  write_frame_header(bytes, message, options.subject.size(), padding);
  if (padding != 0) {
    // Zeros, so that nothing of this process leaks to the peer with them.
    std::memset(bytes + kFrameHeaderBytes, 0, padding);
    const std::uint16_t block[2] = {kExtensionPadding, static_cast<std::uint16_t>(padding)};
    std::memcpy(bytes + kFrameHeaderBytes, block, sizeof block);
  }
  loan.payload_ = {bytes + kFrameHeaderBytes + padding, payload_size};
  if (!options.subject.empty()) {
    std::memcpy(loan.payload_.data() + payload_size, options.subject.data(), options.subject.size());
  }
  loan.subject_size_ = options.subject.size();
  loan.flush_ = options.send.flush;
  loan.core_ = shared_from_this();
  loan.driver_ = driver_;
  if (lock.many()) open_loans_.push_back({driver_.get(), loan.loan_.peer, std::this_thread::get_id()});
  return loan;
}

void TransportCore::forget_loan(const DriverHandle& driver, PeerId peer) {
  std::erase_if(open_loans_, [&](const OpenLoan& open) { return open.driver == &driver && open.peer == peer; });
  loan_ended_.notify_all();
}

TransportResult<> TransportCore::commit(Loan& loan, std::size_t payload_size) {
  if (forked()) return {TransportError::UNSUPPORTED, "commit() after fork(): the Loan is the parent's"};
  if (payload_size > loan.payload_.size()) {
    return {TransportError::INVALID_ARGUMENT,
            "a loan of " + std::to_string(loan.payload_.size()) + " bytes cannot send " + std::to_string(payload_size)};
  }
  if (payload_size < loan.payload_.size() && loan.subject_size_ != 0) {
    std::memmove(loan.payload_.data() + payload_size, loan.payload_.data() + loan.payload_.size(), loan.subject_size_);
  }
  auto* begin = static_cast<std::byte*>(loan.loan_.memory);
  const auto size = static_cast<std::size_t>(loan.payload_.data() - begin) + payload_size + loan.subject_size_;
  const std::shared_ptr<DriverHandle> driver = std::move(loan.driver_);
  SenderLock lock(*this);
  const cdmf_status status = driver->ops().commit(driver->self(), &loan.loan_, size, loan.flush_ ? 1 : 0);
  if (lock.many()) forget_loan(*driver, loan.loan_.peer);
  if (status != CDMF_OK) return send_failed(status, SendOptions{.peer = loan.loan_.peer}, payload_size);
  count_sent(1, payload_size);
  return {};
}

void TransportCore::abort(Loan& loan) noexcept {
  if (forked()) {
    new std::shared_ptr<DriverHandle>(std::move(loan.driver_));  // The parent's; nothing here may touch or free it.
    return;
  }
  const std::shared_ptr<DriverHandle> driver = std::move(loan.driver_);
  SenderLock lock(*this);
  driver->ops().abort(driver->self(), &loan.loan_);
  if (lock.many()) forget_loan(*driver, loan.loan_.peer);
}

TransportResult<> TransportCore::flush(PeerId peer, std::optional<std::chrono::nanoseconds> timeout) {
  if (forked()) return {TransportError::UNSUPPORTED, "flush() after fork(): make a new Transport in the child"};
  std::optional<std::uint64_t> deadline;
  for (;;) {
    cdmf_status status;
    {
      SenderLock lock(*this);
      if (!sendable_.load(std::memory_order_acquire)) {
        return {TransportError::NOT_CONNECTED, label() + ": no peer is connected"};
      }
      if (!deadline) deadline = deadline_after(timeout.value_or(config_.send_timeout));
      const std::uint64_t slice = deadline_after(std::chrono::milliseconds(10));
      status = driver_->ops().flush(driver_->self(), peer, lock.many() ? std::min(*deadline, slice) : *deadline);
    }
    if (status == CDMF_OK) return {};
    if (status != CDMF_INTERRUPTED && (status != CDMF_TIMEOUT || passed(*deadline))) return to_error(status);
    // Between two slices the other senders get their turn: a mutex given up and taken at once would go to nobody else.
    if (status == CDMF_TIMEOUT) std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
}

}  // namespace cdmf::ipc
