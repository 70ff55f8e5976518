#pragma once
// support/fake_driver.h: a driver that carries nothing: the test says what arrives and what each call answers, sees
// what was sent, and is told when Transport breaks the driver's contract (ipc/plugin_abi.h).
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/frame.h"
#include "ipc/message.h"
#include "ipc/plugin.h"

namespace cdmf::ipc::testing {

/// Calls of a driver, for counting.
enum class Call {
  CREATE,
  OPEN,
  ATTACH,
  CLAIM,
  COMMIT,
  ABORT,
  FLUSH,
  AWAIT_SPACE,
  RECEIVE_BURST,
  RELEASE_BURST,
  AWAIT_MESSAGES,
  HOLD,
  UNHOLD,
  ARM,
  INTERRUPT,
  DISCONNECT,
  CLOSE,
  DESTROY,
  COUNT
};

class FakeDriver;

/// The test's end of every driver made for one endpoint. All methods may be called by any thread.
class FakeWire : public std::enable_shared_from_this<FakeWire> {
 public:
  /// Drivers made for a config with this endpoint find this wire, as long as it lives.
  static std::shared_ptr<FakeWire> make(const std::string& endpoint);
  static std::shared_ptr<FakeWire> find(const std::string& endpoint);
  explicit FakeWire(std::string endpoint) : endpoint_(std::move(endpoint)) {}
  ~FakeWire();
  [[nodiscard]] const std::string& endpoint() const noexcept { return endpoint_; }

  // ---- What happens on the link --------------------------------------------------------------------------------

  /// Server: a client comes. Its messages may follow.
  cdmf_peer connect_peer();
  void deliver(cdmf_peer peer, MessageView message);
  void deliver(cdmf_peer peer, std::string_view payload);
  void deliver_raw(cdmf_peer peer, std::vector<std::byte> frame);
  void deliver_kind(cdmf_peer peer, std::uint32_t kind);
  /// The link ends: what was delivered can be received, nothing more can be sent.
  void end_link(cdmf_peer peer, cdmf_status reason, std::uint64_t lost = 0);
  /// How many more frames can be claimed; unlimited at first.
  void set_room(std::size_t frames);
  /// The last peer that attach() made.
  [[nodiscard]] cdmf_peer server() const;

  // ---- What the calls answer, in turn; when nothing is left they work ---------------------------------------------

  void answer_create(cdmf_status status) { answer(Call::CREATE, status); }
  void answer_open(cdmf_status status) { answer(Call::OPEN, status); }
  void answer_attach(cdmf_status status, std::size_t times = 1) { answer(Call::ATTACH, status, times); }
  void answer_claim(cdmf_status status) { answer(Call::CLAIM, status); }
  void answer_commit(cdmf_status status) { answer(Call::COMMIT, status); }
  void answer_flush(cdmf_status status, std::size_t times = 1) { answer(Call::FLUSH, status, times); }
  void answer_hold(cdmf_status status) { answer(Call::HOLD, status); }
  void answer_await_messages(cdmf_status status, std::size_t times = 1) { answer(Call::AWAIT_MESSAGES, status, times); }
  void answer_await_space(cdmf_status status, std::size_t times = 1) { answer(Call::AWAIT_SPACE, status, times); }
  void agree_on_frame_size(std::uint64_t bytes) { frame_size_agreed_ = bytes; }
  /// Runs inside every such call, before anything else.
  void on(Call call, std::function<void()> hook);

  // ---- What was seen ----------------------------------------------------------------------------------------------

  struct Sent {
    cdmf_peer peer = 0;
    Message message;
    std::size_t frame_bytes = 0;
    bool padding_is_clean = true;  ///< extension bytes behind the block header are zero
  };
  [[nodiscard]] std::vector<Sent> sent() const;  ///< flushed
  [[nodiscard]] std::size_t queued() const;      ///< committed, not flushed
  [[nodiscard]] std::size_t calls(Call call) const;
  [[nodiscard]] std::size_t open_claims() const;
  [[nodiscard]] std::size_t held() const;
  [[nodiscard]] std::size_t drivers_alive() const;
  [[nodiscard]] bool sender_waits() const { return senders_waiting_.load() != 0; }
  [[nodiscard]] bool receiver_waits() const { return receivers_waiting_.load() != 0; }
  /// Frames delivered and not yet taken by a receiver.
  [[nodiscard]] std::size_t undelivered() const;
  [[nodiscard]] std::vector<std::pair<cdmf_peer, cdmf_status>> disconnects() const;
  /// Breaches of the driver's contract, in words; none in a correct Transport.
  [[nodiscard]] std::vector<std::string> violations() const;

 private:
  friend class FakeDriver;
  struct Frame {
    explicit Frame(std::size_t bytes) : words((bytes + 15) / 16), size(bytes) {}
    struct alignas(16) Word {
      std::byte bytes[16];
    };
    std::byte* data() { return words.front().bytes; }
    std::vector<Word> words;
    std::size_t size;
  };
  struct Arrival {
    cdmf_view view{};
    std::shared_ptr<Frame> frame;
  };
  struct Link {
    cdmf_status end = CDMF_OK;
    bool claimed = false;
  };
  /// Marks that a call of one side runs; a second one at the same time is a breach.
  class Side;

  void answer(Call call, cdmf_status status, std::size_t times = 1);
  /// The scripted answer, when there is one.
  bool scripted(Call call, cdmf_status& status);
  void enter(Call call);
  void breach(const std::string& what);
  void push(Arrival arrival);
  void decode_and_keep(cdmf_peer peer, Frame& frame, std::size_t size, bool flushed);

  const std::string endpoint_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  const FakeDriver* open_ = nullptr;  // Which one is.
  bool has_server_ = false;
  cdmf_peer last_peer_ = 0;
  std::map<cdmf_peer, Link> links_;
  std::deque<Arrival> arrivals_;
  std::vector<Arrival> burst_;
  bool burst_out_ = false;
  /// Of one of the drivers: a Loan or HeldMessage keeps an old one alive beside its successor.
  struct Owned {
    const FakeDriver* owner;
    std::shared_ptr<Frame> frame;
  };
  std::map<std::uint64_t, Owned> held_;
  std::map<std::uint64_t, Owned> claims_;
  std::uint64_t last_token_ = 0;
  std::size_t room_ = SIZE_MAX;
  std::vector<Sent> queued_;
  std::vector<Sent> sent_;
  std::uint64_t interrupts_ = 0;
  std::uint64_t interrupts_seen_sending_ = 0;
  std::uint64_t interrupts_seen_receiving_ = 0;
  std::map<Call, std::deque<cdmf_status>> answers_;
  std::map<Call, std::function<void()>> hooks_;
  std::array<std::size_t, static_cast<std::size_t>(Call::COUNT)> calls_{};
  std::size_t drivers_ = 0;
  std::vector<std::pair<cdmf_peer, cdmf_status>> disconnects_;
  std::vector<std::string> violations_;
  std::atomic<std::uint64_t> frame_size_agreed_{0};
  std::atomic<int> senders_waiting_{0};
  std::atomic<int> receivers_waiting_{0};
  std::atomic<int> sending_{0};
  std::atomic<int> receiving_{0};
  std::atomic<int> controlling_{0};
};

class FakeDriver final : public Driver {
 public:
  FakeDriver(const DriverConfig& config, PluginHost host);
  ~FakeDriver() override;

  cdmf_status open(ErrorText& error) override;
  cdmf_status attach(std::uint64_t deadline, cdmf_peer& peer, ErrorText& error) override;
  cdmf_status claim(cdmf_peer peer, std::size_t size, cdmf_loan& loan) override;
  cdmf_status commit(const cdmf_loan& loan, std::size_t size, bool flush) override;
  void abort(const cdmf_loan& loan) override;
  cdmf_status flush(cdmf_peer peer, std::uint64_t deadline) override;
  cdmf_status await_space(cdmf_peer peer, std::size_t size, std::uint64_t deadline) override;
  std::size_t receive_burst(cdmf_view* views, std::size_t capacity) override;
  void release_burst() override;
  cdmf_status await_messages(std::uint64_t deadline) override;
  cdmf_status hold(cdmf_peer peer, std::uint64_t token, std::uint64_t& held) override;
  void unhold(std::uint64_t held) override;
  int poll_fd() override { return 1000; }
  cdmf_arm_result arm() override;
  void interrupt() override;
  cdmf_status disconnect(cdmf_peer peer, cdmf_status reason) override;
  void close() override;
  void describe(cdmf_info& info) override;

 private:
  const std::shared_ptr<FakeWire> wire_;
  const bool is_server_;
  const std::uint64_t frame_size_max_;
};

/// type "fake", with the properties depth (INT 1 … 16, default 4) and create_shm (BOOL, says the role).
[[nodiscard]] const cdmf_plugin& fake_plugin();

}  // namespace cdmf::ipc::testing
