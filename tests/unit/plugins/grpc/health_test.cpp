// What any gRPC client can ask of a server: whether it is well. And what it is told when it asks for anything else.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <future>
#include <string>

#include "ipc/transport.h"
#include "unit/plugins/grpc/plugin.h"

namespace cdmf::ipc {
namespace {

class GrpcHealth : public ::testing::Test {
 protected:
  GrpcHealth() : socket_(std::filesystem::temp_directory_path() / ("cdmf-health-" + std::to_string(getpid()))) {
    TransportConfig config;
    config.endpoint = "/grpc_health";
    config.role = Role::SERVER;
    config.properties = {{"insecure", "true"}, {"address", "unix:" + socket_.string()}};
    EXPECT_TRUE(server_.init(config).success());
    EXPECT_TRUE(server_.start().success());
    const auto listening = server_.connect();
    EXPECT_TRUE(listening.success()) << listening.text();
  }

  grpc::Status call(const std::string& method, std::string& reply) {
    grpc::GenericStub stub(grpc::CreateChannel("unix:" + socket_.string(), grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    const grpc::Slice empty;  // HealthCheckRequest {}: the server as a whole.
    const grpc::ByteBuffer request(&empty, 1);
    grpc::ByteBuffer response;
    std::promise<grpc::Status> ended;
    stub.UnaryCall(&context, method, {}, &request, &response,
                   [&](grpc::Status status) { ended.set_value(std::move(status)); });
    const grpc::Status status = ended.get_future().get();
    grpc::Slice slice;
    if (status.ok() && response.DumpToSingleSlice(&slice).ok()) {
      reply.assign(reinterpret_cast<const char*>(slice.begin()), slice.size());
    }
    return status;
  }

  std::filesystem::path socket_;
  Transport server_{plugin()};
};

TEST_F(GrpcHealth, AServerThatListensIsServing) {
  for (int i = 0; i < 3; ++i) {
    std::string reply;
    const grpc::Status status = call("/grpc.health.v1.Health/Check", reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(reply, "\x08\x01") << "not HealthCheckResponse { status: SERVING }";
  }
  EXPECT_TRUE(server_.getPeers().empty()) << "who asks is no peer";
}

TEST_F(GrpcHealth, AnythingElseIsNotImplemented) {
  for (const char* method : {"/grpc.health.v1.Health/Watch", "/bank.Accounts/Empty"}) {
    std::string reply;
    const grpc::Status status = call(method, reply);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED) << method << ": " << status.error_message();
  }
  EXPECT_TRUE(server_.getPeers().empty());
}

}  // namespace
}  // namespace cdmf::ipc
