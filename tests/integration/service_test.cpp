// `cdmf run` as a service, and clients of this process that talk to it.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "ipc/host.h"
#include "program.h"

namespace cdmf::ipc::test {
namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

class Service : public testing::Test {
 protected:
  // One service over three transports, of which the two that leave a process can be reached from here.
  std::string config() const {
    const std::string suffix = std::to_string(getpid());
    return folder_.write("service.yaml",
                         "version: 1\n"
                         "transports:\n"
                         "  local: { type: loopback, endpoint: /cdmf_service_a_" +
                             suffix +
                             " }\n"
                             "  socket: { type: unix_socket, endpoint: /cdmf_service_b_" +
                             suffix +
                             " }\n"
                             "  memory: { type: shm, endpoint: /cdmf_service_c_" +
                             suffix + " }\n");
  }

  static std::unique_ptr<Transport> connect(Host& host, const std::string& name) {
    auto created = host.create(name, Role::CLIENT, [](TransportConfig& config) { config.receive = Receive::POLL; });
    EXPECT_TRUE(created.success()) << created.text();
    EXPECT_TRUE(created.value->start().success());
    const auto connected = created.value->connect();
    EXPECT_TRUE(connected.success()) << connected.text();
    return std::move(created.value);
  }

  static void expect_echo(Transport& transport, std::uint64_t id) {
    Message request(MessageType::REQUEST);
    request.setId(id);
    request.setSubject("echo");
    request.setPayload("hello " + std::to_string(id));
    const auto sent = transport.send(request);
    ASSERT_TRUE(sent.success()) << sent.text();
    const auto received = transport.receive(kWatchdog);
    ASSERT_TRUE(received.success()) << received.text();
    EXPECT_EQ(received.value->getType(), MessageType::RESPONSE);
    EXPECT_EQ(received.value->getId(), id);
    EXPECT_EQ(received.value->getPayloadText(), "hello " + std::to_string(id));
  }

  TestFolder folder_;
};

TEST_F(Service, EchoesOverEveryTransportToTheClientThatAsked) {
  const std::string file = config();
  Program service(folder_, "service", {"run", file});
  ASSERT_TRUE(service.wait_for_output("\nready\n")) << service.errors();
  auto host = Host::load(file);
  ASSERT_TRUE(host.success()) << host.text();
  for (const char* name : {"socket", "memory"}) {
    const auto first = connect(*host.value, name);
    const auto second = connect(*host.value, name);
    for (std::uint64_t id = 1; id <= 50; ++id) {
      expect_echo(*first, id);
      expect_echo(*second, 1000 + id);
    }
    // Nobody waits for an answer to an event: the next message that comes is that to the request after it.
    ASSERT_TRUE(first->send(Message(MessageType::EVENT)).success());
    expect_echo(*first, 77);
  }
  ASSERT_EQ(kill(service.pid(), SIGTERM), 0);
  EXPECT_EQ(service.wait(), 0) << service.errors();
  EXPECT_TRUE(contains(service.output(), "memory: received 102 messages")) << service.output();
  EXPECT_TRUE(contains(service.output(), "socket: received 102 messages")) << service.output();
  EXPECT_TRUE(contains(service.output(), "sent 101 ")) << service.output();
  EXPECT_TRUE(contains(service.errors(), "memory: peer ") && contains(service.errors(), " connected"))
      << service.errors();
}

TEST_F(Service, AnswersTheCommandCall) {
  const std::string file = config();
  Program service(folder_, "service", {"run", file});
  ASSERT_TRUE(service.wait_for_output("\nready\n")) << service.errors();
  for (const char* name : {"socket", "memory"}) {
    const auto call = [&](std::vector<std::string> words, Streams streams = {}) {
      words.insert(words.begin(), {"call", file, "--transport", name});
      return run(folder_, words, streams);
    };
    const auto echo = call({"echo", "hello there"});
    EXPECT_EQ(echo.code, 0) << echo.errors;
    EXPECT_EQ(echo.output, "hello there");
    EXPECT_EQ(call({"echo"}).output, "");
    EXPECT_EQ(call({"checksum", "123456789"}).output, "cbf43926");
    const std::string data = folder_.write_noise("data", 5000);
    EXPECT_EQ(call({"echo", "@" + data}).output, read_file(data));
    EXPECT_EQ(call({"echo", "-"}, Streams{.input = data}).output, read_file(data));
    EXPECT_GT(std::stoll(call({"time"}).output), 1'700'000'000'000'000);
    EXPECT_TRUE(contains(call({"cdmf.introspect"}).output, "\"health\":\"serving\""));

    const auto missing = call({"ecko"});
    EXPECT_EQ(missing.code, 1);
    EXPECT_TRUE(contains(missing.errors, "NOT_SENT: UNSUPPORTED") && contains(missing.errors, "did you mean 'echo'"))
        << missing.errors;
    EXPECT_TRUE(contains(call({"echo", "@/no/such/file"}).errors, "'/no/such/file'"));
    const auto large = call({"echo", "@" + folder_.write_noise("large", 100'000)});
    EXPECT_EQ(large.code, 1);
    EXPECT_TRUE(contains(large.errors, "BUFFER_OVERFLOW")) << large.errors;
    for (const char* timeout : {"5", "0", "soon", "-1s"}) {
      const auto wrong = call({"echo", std::string("--timeout=") + timeout});
      EXPECT_EQ(wrong.code, 2) << timeout;
      EXPECT_TRUE(contains(wrong.errors, "--timeout")) << wrong.errors;
    }
  }
  const auto several = run(folder_, {"call", file, "echo"});
  EXPECT_EQ(several.code, 2);
  EXPECT_TRUE(contains(several.errors, "--transport")) << several.errors;
  const auto local = run(folder_, {"call", file, "echo", "--transport", "local"});
  EXPECT_EQ(local.code, 1);
  EXPECT_TRUE(contains(local.errors, "UNSUPPORTED")) << local.errors;
}

TEST_F(Service, ACallThatNobodyAnswersSaysWhereItLooked) {
  const auto nobody = run(folder_, {"call", config(), "echo", "--transport", "memory"});
  EXPECT_EQ(nobody.code, 1);
  EXPECT_TRUE(contains(nobody.errors, "ENDPOINT_NOT_FOUND")) << nobody.errors;
}

TEST_F(Service, StopsOnEitherSignalWithClientsConnectedAndCanStartAgain) {
  const std::string file = config();
  auto host = Host::load(file);
  ASSERT_TRUE(host.success()) << host.text();
  for (const int number : {SIGINT, SIGTERM}) {
    Program service(folder_, "service", {"run", file});
    ASSERT_TRUE(service.wait_for_output("\nready\n")) << service.errors();
    const auto socket = connect(*host.value, "socket");
    const auto memory = connect(*host.value, "memory");
    expect_echo(*socket, 1);
    expect_echo(*memory, 2);
    ASSERT_EQ(kill(service.pid(), number), 0);
    EXPECT_EQ(service.wait(), 0) << service.errors();
  }
}

TEST_F(Service, AnEndpointInUseIsAnErrorThatNamesTheTransport) {
  const std::string file = config();
  Program service(folder_, "service", {"run", file});
  ASSERT_TRUE(service.wait_for_output("\nready\n")) << service.errors();
  const auto second = run(folder_, {"run", file});
  EXPECT_EQ(second.code, 1);
  EXPECT_TRUE(contains(second.errors, "ENDPOINT_IN_USE")) << second.errors;
  EXPECT_TRUE(contains(second.errors, "socket")) << second.errors;
  EXPECT_TRUE(service.running()) << "the second one disturbed the first";
}

}  // namespace
}  // namespace cdmf::ipc::test
