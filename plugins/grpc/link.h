#pragma once
// link.h: one stream: a queue towards the peer, blocks that came from it, and how it ended.
//
// Threads  Completions run on the driver's thread that polls gRPC. All state is guarded by mutex_; what a claim gave
// out
//          is written and what a burst handed out is read without it. gRPC's own calls are made under mutex_, for each
//          of them only starts something.
// Ends     ended_ is set once, by whoever is first: this side (end()), the peer's goodbye, or the stream's failure.
#include <grpcpp/alarm.h>
#include <grpcpp/channel.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>

#include "ipc/driver.h"
#include "wire.h"

namespace cdmf::ipc::grpc_transport {

/// What one message brought. Views point into it, hence it stays as long as one of them.
struct Block {
  explicit Block(std::size_t bytes) : memory(std::make_unique_for_overwrite<std::byte[]>(bytes)), size(bytes) {}
  const std::unique_ptr<std::byte[]> memory;  // From new[], hence aligned to CDMF_FRAME_ALIGNMENT.
  const std::size_t size;
  std::size_t begin = 0;  // The receiver's: what was handed out.
  unsigned holds = 0;     // The driver's, under its mutex.
};

class Link;

/// What links tell and ask their driver. The first two are called under a link's mutex, the others without.
class LinkEvents {
 public:
  virtual void receivable() = 0;
  /// Whether the receiver itself completes operations now, and hence looks at the link next.
  virtual bool receiver_is_here() = 0;
  /// A client has called: accept() or refuse().
  virtual void called(Link& link) = 0;
  /// No operation of gRPC refers to the link any more, nor will one.
  virtual void finished(cdmf_peer id) = 0;

 protected:
  ~LinkEvents() = default;
};

class Link : public std::enable_shared_from_this<Link> {
 public:
  struct Limits {
    std::size_t frame_size_max = 0;
    std::size_t send_bytes = 0;
    std::size_t receive_bytes = 0;
  };
  enum class Op : unsigned { kStart, kRead, kWrite, kHalfClose, kFinish, kDone, kLinger };
  static constexpr std::size_t kOpCount = 7;
  /// What gRPC's completion queue gives back.
  struct Tag {
    Link* link;
    Op op;
  };

  Link(cdmf_peer id, const Limits& limits, LinkEvents& events, grpc::CompletionQueue& queue);

  // ---- Making one -----------------------------------------------------------------------------------------------

  /// Client: asks for a link.
  void call(std::shared_ptr<grpc::Channel> channel, const std::string& endpoint);
  /// Client: waits until the server has answered, or the deadline; then the stream is cancelled. On CDMF_OK the link
  /// carries frames.
  [[nodiscard]] cdmf_status await_answer(std::uint64_t deadline, std::string& problem);
  /// Server: waits for the next call; LinkEvents::called() when one came, finished() when the server shut down.
  void request(grpc::AsyncGenericService& service, grpc::ServerCompletionQueue& queue);
  /// Server, in called(): what the client says of itself.
  [[nodiscard]] grpc::GenericServerContext& context() noexcept { return *server_context_; }
  void accept();
  void refuse(cdmf_status status, const std::string& text);
  /// Server, in called(): the call is none for a link, but asks whether the server is well.
  void answer_health();

  [[nodiscard]] cdmf_peer id() const noexcept { return id_; }
  [[nodiscard]] std::size_t frame_size_max() const noexcept { return limits_.frame_size_max; }

  // ---- Sending. Statuses are those of cdmf_driver_ops. ----------------------------------------------------------

  [[nodiscard]] cdmf_status claim(std::size_t size, cdmf_loan& loan);
  [[nodiscard]] static cdmf_status commit(const cdmf_loan& loan, std::size_t size, bool flush);
  static void abort(const cdmf_loan& loan);
  [[nodiscard]] cdmf_status flush(std::uint64_t deadline);
  [[nodiscard]] cdmf_status await_space(std::size_t size, std::uint64_t deadline,
                                        const std::atomic<std::uint64_t>& interrupts, std::uint64_t interrupts_before);
  void wake_waiters();

  // ---- Receiving [receiver] -------------------------------------------------------------------------------------

  /// The next view of this link; false: nothing now. block keeps its memory, null when it has none. burst: a number
  /// for each one.
  [[nodiscard]] bool next(cdmf_view& view, std::shared_ptr<Block>& block, std::uint64_t burst);
  [[nodiscard]] bool receivable();
  [[nodiscard]] const char* problem() const noexcept { return problem_; }

  // ---- The end --------------------------------------------------------------------------------------------------

  /// Ends the link from this side: what was flushed leaves if the peer takes it within linger, then a goodbye. The
  /// first reason stays. [any]
  void end(cdmf_status reason, std::chrono::nanoseconds linger);
  /// Ends the stream at once, whatever is on its way.
  void cancel();

  /// An operation ended. [gRPC's thread]
  void complete(Op op, bool ok);

 private:
  struct Batch {
    explicit Batch(std::size_t bytes) : memory(std::make_unique_for_overwrite<std::byte[]>(bytes)), capacity(bytes) {}
    const std::unique_ptr<std::byte[]> memory;
    const std::size_t capacity;
    std::size_t sent = 0;       // Given to gRPC: [0, sent).
    std::size_t published = 0;  // To be sent: [sent, published).
    std::size_t end = 0;        // Committed: [published, end).
    std::uint64_t frames_sent = 0;
    std::uint64_t frames_published = 0;
    std::uint64_t frames_committed = 0;
  };

  [[nodiscard]] cdmf_status can_send() const noexcept;
  void note_identity(const grpc::AuthContext& authentication);
  [[nodiscard]] void* post(Op op);
  [[nodiscard]] bool under_way(Op op) const noexcept { return under_way_[static_cast<unsigned>(op)] != nullptr; }
  void post_read();
  void publish();
  void write_more();
  void finish_more();
  void ask_for_status();
  void try_cancel();
  void remote_end(cdmf_status reason);
  void take_message();
  [[nodiscard]] bool take_record(cdmf_view& view, std::shared_ptr<Block>& block);
  void on_start(bool ok);
  [[nodiscard]] cdmf_status status_of_failure() const;
  [[nodiscard]] bool is_over() const noexcept;

  const cdmf_peer id_;
  Limits limits_;  // frame_size_max: the server's, as soon as it has answered.
  LinkEvents& events_;
  grpc::CompletionQueue& queue_;

  std::mutex mutex_;                 // Guards everything below.
  std::condition_variable changed_;  // Room, the answer, or the end.

  // The stream: a client's or a server's.
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<grpc::ClientContext> client_context_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> client_;
  std::unique_ptr<grpc::GenericServerContext> server_context_;
  std::unique_ptr<grpc::GenericServerAsyncReaderWriter> server_;
  grpc::Alarm linger_;
  std::array<Tag, kOpCount> tags_;
  std::array<std::shared_ptr<Link>, kOpCount> under_way_;  // Each operation keeps the link.
  grpc::Status status_;                                    // Client: how the stream ended,
  cdmf_status failure_ = CDMF_OK;                          // and what that means when it never carried frames.
  grpc::ByteBuffer incoming_;                              // What the posted read fills.

  // Sending.
  std::deque<std::shared_ptr<Batch>> batches_;
  std::shared_ptr<Batch> claimed_in_;   // An open claim keeps its memory,
  std::shared_ptr<Link> claimed_self_;  // and its link.
  std::size_t claimed_bytes_ = 0;       // Of its record.
  std::size_t used_ = 0;                // Claimed, committed, or given to gRPC.
  std::size_t write_bytes_ = 0;         // Of the write under way.
  std::uint64_t frames_committed_ = 0;
  std::uint64_t frames_published_ = 0;
  std::uint64_t frames_sent_ = 0;
  std::uint64_t write_frames_ = 0;  // Of the write under way.
  bool goodbye_wanted_ = false;
  bool goodbye_begun_ = false;
  bool finish_wanted_ = false;
  bool finish_begun_ = false;

  // Receiving.
  std::shared_ptr<Block> identity_;  // Of the peer; null: not known.
  std::deque<std::shared_ptr<Block>> inbox_;
  std::size_t inbox_bytes_ = 0;
  std::uint64_t last_burst_ = 0;  // That had something of this link.
  bool announced_ = false;
  bool end_told_ = false;

  // Progress of the stream.
  bool called_ = false;       // Server: a client's call is here.
  bool answered_ = false;     // Client: past the first step of the start.
  bool open_ = false;         // Frames may pass.
  bool read_failed_ = false;  // Nothing more comes.
  bool stream_over_ = false;  // gRPC has no more to say.
  bool broken_ = false;       // Writing failed.
  bool finish_told_ = false;
  cdmf_status ended_ = CDMF_OK;
  std::uint64_t lost_ = 0;
  const char* problem_ = "";
};

}  // namespace cdmf::ipc::grpc_transport
