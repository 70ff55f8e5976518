// A client that speaks gRPC and not what belongs on a link: it harms its own link, and nobody else's.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include "ipc/transport.h"
#include "support/eventually.h"
#include "unit/plugins/grpc/plugin.h"
#include "wire.h"

namespace cdmf::ipc {
namespace {

using namespace std::chrono_literals;
using namespace grpc_transport;
using testing::eventually;

constexpr const char* kEndpoint = "/grpc_hostile";
const std::map<std::string, std::string> kGoodMetadata = {
    {kVersionKey, std::to_string(kWireVersion)}, {kFrameSizeKey, "1024"}, {kEndpointKey, kEndpoint}};

/// A stream that says what the test wants.
class RawClient {
 public:
  RawClient(const std::string& address, const std::map<std::string, std::string>& metadata)
      : stub_(grpc::CreateChannel(address, grpc::InsecureChannelCredentials())) {
    for (const auto& [key, value] : metadata) context_.AddMetadata(key, value);
    stream_ = stub_.PrepareCall(&context_, kMethod, &queue_);
    stream_->StartCall(this);
    (void)next();
  }
  ~RawClient() {
    context_.TryCancel();
    queue_.Shutdown();
    while (next() != Next::over) continue;
  }
  void send(const std::string& bytes) {
    const grpc::Slice slice(bytes);
    stream_->Write(grpc::ByteBuffer(&slice, 1), this);
    (void)next();
  }
  /// What the server says of its own accord; empty: it has ended the stream.
  std::string receive() {
    grpc::ByteBuffer message;
    grpc::Slice slice;
    stream_->Read(&message, this);
    if (next() != Next::done || !message.DumpToSingleSlice(&slice).ok()) return {};
    return {reinterpret_cast<const char*>(slice.begin()), slice.size()};
  }
  grpc::Status finish() {
    grpc::Status status;
    stream_->Finish(&status, this);
    (void)next();
    return status;
  }

 private:
  enum class Next { done, failed, over };
  Next next() {
    void* tag = nullptr;
    bool ok = false;
    if (!queue_.Next(&tag, &ok)) return Next::over;
    return ok ? Next::done : Next::failed;
  }
  grpc::GenericStub stub_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;
};

std::string record(std::uint32_t size, RecordKind kind, const std::string& content) {
  const RecordHeader header{size, kind, 0, 0};
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
  bytes += content;
  bytes.resize((bytes.size() + CDMF_FRAME_ALIGNMENT - 1) / CDMF_FRAME_ALIGNMENT * CDMF_FRAME_ALIGNMENT);
  return bytes;
}

class GrpcHostilePeer : public ::testing::Test {
 protected:
  GrpcHostilePeer() : socket_(std::filesystem::temp_directory_path() / ("cdmf-hostile-" + std::to_string(getpid()))) {
    server_.setPeerCallback([this](const PeerEvent& event) {
      if (event.kind == PeerEvent::Kind::CONNECTED) return void(++connected_);
      reason_ = event.reason;
      ++disconnected_;
    });
    server_.setViewCallback([this](const MessageView&) { ++messages_; });
    bring_up(server_, Role::SERVER);
    bring_up(good_, Role::CLIENT);
    EXPECT_TRUE(eventually([&] { return connected_ == 1; }));
  }
  ~GrpcHostilePeer() override {
    EXPECT_TRUE(good_.send(MessageView{}).success()) << "somebody else's link was harmed";
    EXPECT_TRUE(eventually([&] { return messages_ == 1; }));
    EXPECT_TRUE(good_.isConnected());
  }
  void bring_up(Transport& transport, Role role) const {
    TransportConfig config;
    config.endpoint = kEndpoint;
    config.role = role;
    config.max_message_size = 4096;
    config.properties = {{"insecure", "true"}, {"address", address()}, {"linger", "100ms"}};
    EXPECT_TRUE(transport.init(config).success());
    EXPECT_TRUE(transport.start().success());
    const auto connected = transport.connect();
    EXPECT_TRUE(connected.success()) << connected.text();
  }
  [[nodiscard]] std::string address() const { return "unix:" + socket_.string(); }

  std::filesystem::path socket_;
  std::atomic<int> connected_{0};
  std::atomic<int> disconnected_{0};
  std::atomic<int> messages_{0};
  std::atomic<TransportError> reason_{TransportError::SUCCESS};
  Transport server_{plugin()};
  Transport good_{plugin()};
};

TEST_F(GrpcHostilePeer, BytesThatAreNoRunOfRecordsEndTheLink) {
  const std::string frame(64, 'f');
  const std::string messages[] = {
      std::string(),                                             // Nothing.
      std::string(7, 'x'),                                       // Less than a header.
      std::string(4000, 'x'),                                    // No header.
      record(0, RecordKind::kFrame, ""),                         // Of no size.
      record(1000, RecordKind::kFrame, frame),                   // Larger than what is there,
      record(0xffffffff, RecordKind::kFrame, frame),             // much larger,
      record(8192, RecordKind::kFrame, std::string(8192, 'f')),  // or than what was agreed on.
      record(64, static_cast<RecordKind>(9), frame),             // Of no known kind.
      record(0, RecordKind::kGoodbye, frame),                    // A goodbye and something behind it.
  };
  int count = 0;
  for (const std::string& message : messages) {
    RawClient client(address(), kGoodMetadata);
    ASSERT_TRUE(eventually([&] { return connected_ == count + 2; })) << count;
    client.send(message);
    ++count;
    ASSERT_TRUE(eventually([&] { return disconnected_ == count; })) << "message " << count << " was put up with";
    EXPECT_EQ(reason_, TransportError::PROTOCOL_ERROR) << "message " << count;
  }
  EXPECT_EQ(messages_, 0);
}

TEST_F(GrpcHostilePeer, AFrameThatIsNoMessageEndsTheLink) {
  RawClient client(address(), kGoodMetadata);
  ASSERT_TRUE(eventually([&] { return connected_ == 2; }));
  client.send(record(64, RecordKind::kFrame, std::string(64, '\xff')));
  ASSERT_TRUE(eventually([&] { return disconnected_ == 1; }));
  EXPECT_EQ(messages_, 0);
}

TEST_F(GrpcHostilePeer, MetadataThatIsWrongOrMissingIsRefusedInWords) {
  const auto with = [](const char* key, const std::string& value) {
    auto metadata = kGoodMetadata;
    metadata[key] = value;
    return metadata;
  };
  const std::pair<std::map<std::string, std::string>, const char*> refused[] = {
      {{}, "version"},
      {with(kVersionKey, "2"), "version 2"},
      {with(kVersionKey, "one"), "version one"},
      {with(kEndpointKey, "/elsewhere"), "endpoint"},
      {with(kFrameSizeKey, ""), "frame size"},
      {with(kFrameSizeKey, "many"), "frame size"},
      {with(kFrameSizeKey, "99999999999999999999"), "frame size"},
      {with(kFrameSizeKey, "1000000"), "max_message_size"},
  };
  for (const auto& [metadata, word] : refused) {
    RawClient client(address(), metadata);
    EXPECT_EQ(client.receive(), "");
    const auto status = client.finish();
    EXPECT_FALSE(status.ok()) << word;
    EXPECT_NE(status.error_message().find(word), std::string::npos) << word << ": " << status.error_message();
  }
  EXPECT_EQ(connected_, 1) << "the program has heard of one that was refused";
}

}  // namespace
}  // namespace cdmf::ipc
