#pragma once
// route/port.h: one transport that routes use, with the thread that receives from it and passes on what came.
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ipc/host_config.h"
#include "ipc/transport.h"
#include "route/receipts.h"
#include "route/return_paths.h"
#include "rpc/wire.h"

namespace cdmf::ipc::route {

/// Of one entry of the file.
struct Counters {
  std::atomic<std::uint64_t> forwarded{0};
  std::atomic<std::uint64_t> forwarded_back{0};
  std::atomic<std::uint64_t> bytes{0};
  std::atomic<std::uint64_t> answered{0};
  std::atomic<std::uint64_t> dropped{0};
  std::atomic<std::uint64_t> refused{0};
  std::atomic<std::uint64_t> unanswered{0};
  std::atomic<std::uint64_t> looped{0};
  std::atomic<unsigned> waiting{0};
  std::atomic<bool> told{false};  // Once, of what would else fill the log.
};

/// One direction of an entry.
struct Way {
  const RouteEntry* entry = nullptr;
  Counters* counters = nullptr;
  Port* to = nullptr;
  bool back = false;
};

/// What ports share.
struct Shared {
  std::function<void(LogLevel, const std::string&)> log;
  std::function<std::string()> stats_json;
  std::atomic<bool> stopping{false};
};

class Port {
 public:
  Port(std::string name, std::unique_ptr<Transport> transport, Shared& shared);

  const std::string& name() const noexcept { return name_; }
  void add(const Way& way) { ways_.push_back(way); }

  TransportResult<> start();
  void wake();  // Whatever its thread waits in, once Shared::stopping is set.
  void join();  // Then ends the transport.

  using Peers = std::shared_ptr<const std::vector<PeerId>>;
  [[nodiscard]] Peers peers() const;
  [[nodiscard]] std::uint64_t hosts() const { return receipts_.hosts(); }

  std::atomic<std::uint64_t> unmatched{0};
  std::atomic<std::uint64_t> late_answers{0};
  std::atomic<std::uint64_t> answers_lost{0};
  std::atomic<std::uint64_t> lost{0};

 private:
  enum class Passed { yes, down, full, too_large, one_way, too_late, crowded, stopping };

  // Its own thread's.
  void run();
  void connect();
  void receive(const MessageView& message);
  void answer(const MessageView& message);
  void forward(const Way& way, const MessageView& message);
  [[nodiscard]] Passed pass(const Way& way, MessageView& message);
  [[nodiscard]] Passed pass_request(const Way& way, MessageView& message, const std::vector<PeerId>& peers);
  [[nodiscard]] Passed pass_to_all(const Way& way, const MessageView& message, const std::vector<PeerId>& peers);
  [[nodiscard]] Passed pass_to(const Way& way, PeerId peer, const MessageView& message);
  void not_passed(const Way& way, const MessageView& message, Passed why);
  void no_way_for(const MessageView& message);
  void refuse(const MessageView& request, rpc::Refusal refusal, const std::string& text);
  void flush_what_was_sent();
  void note_taken(PeerId peer);
  void give_receipts();
  [[nodiscard]] bool give_receipt(PeerId peer, std::uint64_t count);
  void on_peer(const PeerEvent& event);

  // Other ports' threads call these, too.
  void send_answer(PeerId peer, const MessageView& answer);
  void fail_request(const ReturnPath& path, const std::string& text);
  [[nodiscard]] bool wait_for_peer();
  void forget(PeerId peer);
  void sent_to(Port& port, PeerId peer);

  const std::string name_;
  const std::unique_ptr<Transport> transport_;
  Shared& shared_;
  std::vector<Way> ways_;  // In the order of the file; constant from start() on.
  ReturnPaths return_paths_;
  Receipts receipts_;  // Of what was given to its peers.
  std::thread thread_;

  using Sent = std::vector<std::pair<Port*, PeerId>>;
  struct Taken {
    std::uint64_t count = 0;
    std::uint64_t receipted = 0;
  };
  Sent unflushed_;                 // Of the burst that is being passed on.
  Sent unsettled_;                 // Since the last receipts.
  std::map<PeerId, Taken> taken_;  // From hosts at the other end.
  std::uint64_t unreceipted_ = 0;  // In all.
  std::size_t turn_ = 0;           // Whose the next request is, where there are several.
  std::uint64_t deadline_ns_ = 0;  // Of the request that waits; 0: none.
  std::string last_problem_;       // Of connecting.
  bool unmatched_told_ = false;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Peers peers_ = std::make_shared<const std::vector<PeerId>>();
};

}  // namespace cdmf::ipc::route
