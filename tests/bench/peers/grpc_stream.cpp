// A plain gRPC stream over a Unix socket, in plain text: what generated code makes of
// `rpc Stream(stream bytes) returns (stream bytes)`, the synchronous API, one Write and one Read per message.
#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/codegen/method_handler.h>
#include <grpcpp/impl/codegen/rpc_service_method.h>
#include <grpcpp/impl/codegen/service_type.h>

#include <condition_variable>
#include <mutex>

#include "peers/link_bench.h"

namespace cdmf::bench {
namespace {

constexpr const char* kMethod = "/bench.Plain/Stream";
constexpr std::size_t kQueuedMax = 256;  // Messages of many clients that wait to be handed out.

grpc::ByteBuffer buffer_of(std::span<const std::byte> bytes) {
  const grpc::Slice slice(bytes.data(), bytes.size());
  return {&slice, 1};
}

using ServerStream = grpc::ServerReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;

/// Hands the streams of its clients to whoever waits for them. One client: its stream itself. Many: a handler thread
/// each reads and queues, as a server of the synchronous API does.
class StreamService final : public grpc::Service {
 public:
  explicit StreamService(bool many) : many_(many) {
    AddMethod(new grpc::internal::RpcServiceMethod(
        kMethod, grpc::internal::RpcMethod::BIDI_STREAMING,
        new grpc::internal::BidiStreamingHandler<StreamService, grpc::ByteBuffer, grpc::ByteBuffer>(
            [](StreamService* self, grpc::ServerContext*, ServerStream* stream) {
              self->serve(stream);
              return grpc::Status::OK;
            },
            this)));
  }
  ServerStream* stream() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return stream_ != nullptr; });
    return stream_;
  }
  std::vector<grpc::ByteBuffer> take() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(1), [&] { return !queued_.empty(); });
    changed_.notify_all();
    return std::exchange(queued_, {});
  }
  void end() {
    const std::lock_guard lock(mutex_);
    over_ = true;
    changed_.notify_all();
  }

 private:
  void serve(ServerStream* stream) {
    if (!many_) {
      std::unique_lock lock(mutex_);
      stream_ = stream;
      changed_.notify_all();
      changed_.wait(lock, [&] { return over_; });
      return;
    }
    for (grpc::ByteBuffer message; stream->Read(&message);) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return queued_.size() < kQueuedMax || over_; });
      queued_.push_back(message);
      if (queued_.size() == 1) changed_.notify_all();
    }
  }
  const bool many_;
  std::mutex mutex_;
  std::condition_variable changed_;
  ServerStream* stream_ = nullptr;
  std::vector<grpc::ByteBuffer> queued_;
  bool over_ = false;
};

class GrpcLink {
 public:
  explicit GrpcLink(const Place& place) : place_(place) {
    const std::string address = "unix:" + place.path(".grpc");
    if (place.server) {
      service_ = std::make_unique<StreamService>(place.what.clients > 1);
      grpc::ServerBuilder builder;
      builder.AddListeningPort(address, grpc::InsecureServerCredentials());
      builder.RegisterService(service_.get());
      builder.SetMaxReceiveMessageSize(-1);
      server_ = builder.BuildAndStart();
      if (server_ == nullptr) throw std::runtime_error("the plain gRPC server does not start");
      return;
    }
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    channel_ = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
    const grpc::internal::RpcMethod method(kMethod, grpc::internal::RpcMethod::BIDI_STREAMING, channel_);
    stream_.reset(grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>::Create(
        channel_.get(), method, &context_));
  }
  ~GrpcLink() {
    if (server_ != nullptr) {
      service_->end();
      server_->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
      ::unlink(place_.path(".grpc").c_str());
    } else {
      stream_->WritesDone();
      context_.TryCancel();
      (void)stream_->Finish();
    }
  }
  GrpcLink(const GrpcLink&) = delete;
  GrpcLink& operator=(const GrpcLink&) = delete;

  void send(std::span<const std::byte> message, bool) {
    const grpc::ByteBuffer buffer = buffer_of(message);
    if (!(place_.server ? server_stream()->Write(buffer) : stream_->Write(buffer))) {
      throw std::runtime_error("the plain gRPC stream ended");
    }
  }
  template <class Handler>
  std::size_t receive(Handler&& handler, std::size_t) {
    if (place_.server && place_.what.clients > 1) {
      const auto messages = service_->take();
      for (const auto& message : messages) hand(message, handler);
      return messages.size();
    }
    grpc::ByteBuffer message;
    if (!(place_.server ? server_stream()->Read(&message) : stream_->Read(&message))) {
      throw std::runtime_error("the plain gRPC stream ended");
    }
    hand(message, handler);
    return 1;
  }

 private:
  template <class Handler>
  static void hand(const grpc::ByteBuffer& message, Handler& handler) {
    grpc::Slice slice;
    if (!message.TrySingleSlice(&slice).ok() && !message.DumpToSingleSlice(&slice).ok()) {
      throw std::runtime_error("a message cannot be read");
    }
    handler(std::as_bytes(std::span(slice.begin(), slice.size())));
  }
  ServerStream* server_stream() {
    if (server_stream_ == nullptr) server_stream_ = service_->stream();
    return server_stream_;
  }

  const Place place_;
  std::unique_ptr<StreamService> service_;
  std::unique_ptr<grpc::Server> server_;
  ServerStream* server_stream_ = nullptr;
  std::shared_ptr<grpc::Channel> channel_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>> stream_;
};

}  // namespace

std::vector<Subject> grpc_subjects() {
  Subject made;
  made.name = "plain_grpc";
  made.label = "plain gRPC stream";
  made.library = "gRPC " + grpc::Version();
  made.settings = [](const Case&) { return "synchronous API, Unix socket, plain text, its own threads"; };
  made.applies = [](const Case&) { return true; };
  made.measure = [](const Case& what, const Setting& setting) { return measure_link<GrpcLink>(what, setting); };
  return {made};
}

}  // namespace cdmf::bench
