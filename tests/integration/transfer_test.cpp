// A pipe of two real processes over each transport: every byte arrives, and whoever loses some says so.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <future>
#include <thread>

#include "ipc/host.h"
#include "program.h"

namespace cdmf::ipc::test {
namespace {

constexpr std::size_t kFileBytes = std::size_t{CDMF_TEST_FILE_MEGABYTES} * 1'000'000;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// The two ends of a pipe, closed with the object.
struct Pipe {
  int read_end = -1;
  int write_end = -1;
  Pipe() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
    read_end = ends[0];
    write_end = ends[1];
  }
  ~Pipe() {
    close_read();
    close_write();
  }
  void close_read() {
    if (read_end >= 0) close(read_end);
    read_end = -1;
  }
  void close_write() {
    if (write_end >= 0) close(write_end);
    write_end = -1;
  }
};

class Transfer : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { signal(SIGPIPE, SIG_IGN); }
  TestFolder folder_;
  std::string config_ = shipped_config(folder_, GetParam());
};

TEST_P(Transfer, ALargeFileArrivesWithEveryByte) {
  const std::string input = folder_.write_noise("sent", kFileBytes);
  Program receiver(folder_, "recv", {"recv", config_, "--raw"});
  Program sender(folder_, "send", {"send", config_, "--raw"}, {.input = input});
  EXPECT_EQ(sender.wait(), 0) << sender.errors();
  EXPECT_EQ(receiver.wait(), 0) << receiver.errors();
  EXPECT_EQ(sha256(receiver.output_path()), sha256(input));
  EXPECT_EQ(receiver.errors(), "");
  EXPECT_EQ(sender.errors(), "");
}

TEST_P(Transfer, LinesArriveAsLines) {
  std::string text;
  for (int i = 0; i < 20'000; ++i)
    text += std::string(static_cast<std::size_t>(i % 300), 'a') + std::to_string(i) + "\n";
  text += "\n\nthe last one";
  const std::string input = folder_.write("lines", text);
  Program receiver(folder_, "recv", {"recv", config_});
  Program sender(folder_, "send", {"send", config_}, {.input = input});
  EXPECT_EQ(sender.wait(), 0) << sender.errors();
  EXPECT_EQ(receiver.wait(), 0) << receiver.errors();
  EXPECT_EQ(receiver.output(), text + "\n");
}

TEST_P(Transfer, AnEmptyInputIsAnEmptyOutput) {
  for (const bool raw : {false, true}) {
    std::vector<std::string> receive{"recv", config_};
    std::vector<std::string> send{"send", config_};
    if (raw) receive.push_back("--raw"), send.push_back("--raw");
    Program receiver(folder_, "recv", receive);
    Program sender(folder_, "send", send);
    EXPECT_EQ(sender.wait(), 0) << sender.errors();
    EXPECT_EQ(receiver.wait(), 0) << receiver.errors();
    EXPECT_EQ(receiver.output(), "");
  }
}

TEST_P(Transfer, TheSenderMayStartFirst) {
  Pipe input;
  Program sender(folder_, "send", {"send", config_}, {.input_fd = input.read_end});
  input.close_read();
  ASSERT_EQ(write(input.write_end, "early\n", 6), 6);
  Program receiver(folder_, "recv", {"recv", config_});
  EXPECT_TRUE(receiver.wait_for_output("early\n")) << receiver.errors() << sender.errors();
  input.close_write();
  EXPECT_EQ(sender.wait(), 0) << sender.errors();
  EXPECT_EQ(receiver.wait(), 0) << receiver.errors();
}

TEST_P(Transfer, ALineArrivesWhileTheInputStaysOpen) {
  Pipe input;
  Program receiver(folder_, "recv", {"recv", config_});
  Program sender(folder_, "send", {"send", config_}, {.input_fd = input.read_end});
  input.close_read();
  for (int i = 0; i < 3; ++i) {
    const std::string line = "line " + std::to_string(i) + "\n";
    ASSERT_EQ(write(input.write_end, line.data(), line.size()), static_cast<ssize_t>(line.size()));
    EXPECT_TRUE(receiver.wait_for_output(line)) << receiver.errors() << sender.errors();
  }
  input.close_write();
  EXPECT_EQ(sender.wait(), 0) << sender.errors();
  EXPECT_EQ(receiver.wait(), 0) << receiver.errors();
}

TEST_P(Transfer, ALineThatIsTooLongIsAnErrorAndThoseBeforeItArrive) {
  const std::string input = folder_.write("long", "short\n" + std::string(1 << 20, 'x') + "\nafter\n");
  Program receiver(folder_, "recv", {"recv", config_});
  Program sender(folder_, "send", {"send", config_}, {.input = input});
  EXPECT_EQ(sender.wait(), 1);
  EXPECT_TRUE(contains(sender.errors(), "line 2")) << sender.errors();
  EXPECT_TRUE(contains(sender.errors(), "max_message_size")) << sender.errors();
  receiver.wait();
  EXPECT_EQ(receiver.output(), "short\n");
}

TEST_P(Transfer, AKilledSenderIsNotTheEndOfTheFile) {
  Pipe input;
  Program receiver(folder_, "recv", {"recv", config_, "--raw"});
  Program sender(folder_, "send", {"send", config_, "--raw"}, {.input_fd = input.read_end});
  input.close_read();
  ASSERT_EQ(write(input.write_end, "half of it", 10), 10);
  ASSERT_TRUE(receiver.wait_for_output("half of it")) << receiver.errors() << sender.errors();
  ASSERT_EQ(kill(sender.pid(), SIGKILL), 0);
  EXPECT_EQ(receiver.wait(), 1);
  EXPECT_TRUE(contains(receiver.errors(), "PEER_DIED")) << receiver.errors();
  EXPECT_EQ(receiver.output(), "half of it");
  EXPECT_EQ(sender.wait(), 128 + SIGKILL);
}

TEST_P(Transfer, AKilledReceiverIsNoticedByAWaitingSender) {
  Pipe input;
  Program receiver(folder_, "recv", {"recv", config_, "--raw"});
  Program sender(folder_, "send", {"send", config_, "--raw"}, {.input_fd = input.read_end});
  input.close_read();
  ASSERT_EQ(write(input.write_end, "some", 4), 4);
  ASSERT_TRUE(receiver.wait_for_output("some")) << receiver.errors() << sender.errors();
  ASSERT_EQ(kill(receiver.pid(), SIGKILL), 0);
  EXPECT_EQ(sender.wait(), 1);  // Its input is still open: the link's end alone ends it.
  EXPECT_TRUE(contains(sender.errors(), "PEER_DIED")) << sender.errors();
}

TEST_P(Transfer, AReceiverWhoseReaderIsGoneStopsBothEnds) {
  const std::string input = folder_.write_noise("sent", std::size_t{64} << 20);
  Pipe output;
  Program receiver(folder_, "recv", {"recv", config_, "--raw"}, {.output_fd = output.write_end});
  output.close_write();
  output.close_read();
  Program sender(folder_, "send", {"send", config_, "--raw"}, {.input = input});
  EXPECT_EQ(receiver.wait(), 1);
  EXPECT_TRUE(contains(receiver.errors(), "standard output was closed")) << receiver.errors();
  EXPECT_EQ(sender.wait(), 1);
  EXPECT_TRUE(contains(sender.errors(), "receiver is gone") || contains(sender.errors(), "not everything was sent"))
      << sender.errors();
}

TEST_P(Transfer, ASlowReaderSlowsTheSenderAndLosesNothing) {
  const std::string input = folder_.write_noise("sent", std::size_t{24} << 20);
  Pipe output;
  Program receiver(folder_, "recv", {"recv", config_, "--raw"}, {.output_fd = output.write_end});
  output.close_write();
  Program sender(folder_, "send", {"send", config_, "--raw"}, {.input = input});
  // 24 MiB fit in no ring or socket: until something is read, the sender cannot have ended.
  char first = 0;
  ASSERT_EQ(read(output.read_end, &first, 1), 1);
  EXPECT_TRUE(sender.running()) << "it says that everything was accepted, which nothing can hold";
  std::ofstream received(folder_.path("received"), std::ios::binary);
  received.put(first);
  std::vector<char> piece(1 << 20);
  for (ssize_t size = 0; (size = read(output.read_end, piece.data(), piece.size())) > 0;)
    received.write(piece.data(), size);
  received.close();
  EXPECT_EQ(sender.wait(), 0) << sender.errors();
  EXPECT_EQ(receiver.wait(), 0) << receiver.errors();
  EXPECT_EQ(sha256(folder_.path("received")), sha256(input));
}

TEST_P(Transfer, ASecondSenderIsSentAwayAndTheFirstStreamStaysWhole) {
  Pipe input;
  Program receiver(folder_, "recv", {"recv", config_});
  Program first(folder_, "first", {"send", config_}, {.input_fd = input.read_end});
  input.close_read();
  ASSERT_EQ(write(input.write_end, "one\n", 4), 4);
  ASSERT_TRUE(receiver.wait_for_output("one\n")) << receiver.errors() << first.errors();
  Pipe open_input;
  Program second(folder_, "second", {"send", config_}, {.input_fd = open_input.read_end});
  EXPECT_EQ(second.wait(), 1) << second.errors();
  ASSERT_EQ(write(input.write_end, "two\n", 4), 4);
  input.close_write();
  EXPECT_EQ(first.wait(), 0) << first.errors();
  EXPECT_EQ(receiver.wait(), 0) << receiver.errors();
  EXPECT_EQ(receiver.output(), "one\ntwo\n");
}

TEST_P(Transfer, WithoutAReceiverTheSenderSaysWhoIsMissing) {
  const std::string yaml = read_file(config_);
  const std::string file =
      folder_.write("impatient.yaml", std::string("version: 1\ntransports:\n  main:\n    type: ") + GetParam() +
                                          "\n    endpoint: /cdmf_nobody_" + std::to_string(getpid()) +
                                          "\n    connect_timeout: 50ms\n" +
                                          (GetParam() == std::string("grpc") ? "    grpc: { insecure: true }\n" : ""));
  const auto refused = run(folder_, {"send", file});
  EXPECT_EQ(refused.code, 1);
  EXPECT_TRUE(contains(refused.errors, "ENDPOINT_NOT_FOUND") || contains(refused.errors, "TIMEOUT")) << refused.errors;
}

TEST_P(Transfer, AnInterruptedReceiverFailsAndFreesItsEndpoint) {
  for (int i = 0; i < 2; ++i) {
    Pipe input;
    Program receiver(folder_, "recv", {"recv", config_});
    Program sender(folder_, "send", {"send", config_}, {.input_fd = input.read_end});
    ASSERT_EQ(write(input.write_end, "x\n", 2), 2);
    ASSERT_TRUE(receiver.wait_for_output("x\n")) << receiver.errors();
    ASSERT_EQ(kill(receiver.pid(), SIGTERM), 0);
    EXPECT_EQ(receiver.wait(), 1);
    EXPECT_TRUE(contains(receiver.errors(), "signal 15")) << receiver.errors();
    EXPECT_EQ(sender.wait(), 1) << sender.errors();
  }
}

#ifdef CDMF_TEST_GRPC
const auto kTypes = testing::Values("unix_socket", "shm", "grpc");

TEST(TransferOverTls, ALargeFileArrivesWithEveryByte) {
  const TestFolder folder;
  const std::string tls = folder.path("tls");
  ASSERT_EQ(std::system((std::string(std::getenv("CDMF_MAKE_CERTIFICATES")) + " '" + tls + "'").c_str()), 0);
  const auto config = [&](const std::string& side) {
    return folder.write(side + ".yaml", "version: 1\ntransports:\n  main:\n    type: grpc\n    endpoint: /cdmf_tls_" +
                                            std::to_string(getpid()) + "\n    grpc: { tls_ca: " + tls +
                                            "/ca.pem, tls_cert: " + tls + "/" + side + ".pem, tls_key: " + tls + "/" +
                                            side + ".key, allow_peers: test-client }\n");
  };
  const std::string input = folder.write_noise("sent", kFileBytes);
  Program receiver(folder, "recv", {"recv", config("server"), "--raw"});
  Program sender(folder, "send", {"send", config("client"), "--raw"}, {.input = input});
  EXPECT_EQ(sender.wait(), 0) << sender.errors();
  EXPECT_EQ(receiver.wait(), 0) << receiver.errors();
  EXPECT_EQ(sha256(receiver.output_path()), sha256(input));
}
// A host that is gone without a word, as after a power cut: here one that does not run.
TEST(KeepaliveOfGrpc, GivesAPeerUpThatDoesNotAnswerAndNotBefore) {
  const TestFolder folder;
  const std::string file = folder.write(
      "keepalive.yaml", "version: 1\ntransports:\n  main: { type: grpc, endpoint: /cdmf_keepalive_" +
                            std::to_string(getpid()) +
                            ", grpc: { insecure: true, keepalive_interval: 1s, keepalive_timeout: 2s } }\n");
  const auto host = Host::load(file);
  ASSERT_TRUE(host.success()) << host.text();
  auto made = host.value->create("main", Role::SERVER);
  ASSERT_TRUE(made.success()) << made.text();
  std::atomic<int> came{0};
  std::promise<TransportError> ended;
  made.value->setPeerCallback([&](const PeerEvent& event) {
    if (event.kind == PeerEvent::Kind::CONNECTED) ++came;
    if (event.kind == PeerEvent::Kind::DISCONNECTED) ended.set_value(event.reason);
  });
  ASSERT_TRUE(made.value->start().success());
  ASSERT_TRUE(made.value->connect().success());
  Pipe input;
  Program sender(folder, "send", {"send", file}, {.input_fd = input.read_end});
  auto end = ended.get_future();
  EXPECT_EQ(end.wait_for(std::chrono::seconds(3)), std::future_status::timeout) << "a silent peer that lives is kept";
  ASSERT_EQ(came, 1) << sender.errors();
  ASSERT_EQ(kill(sender.pid(), SIGSTOP), 0);
  const auto stopped = std::chrono::steady_clock::now();
  ASSERT_EQ(end.wait_for(kWatchdog), std::future_status::ready);
  EXPECT_EQ(end.get(), TransportError::PEER_DIED);
  EXPECT_GE(std::chrono::steady_clock::now() - stopped, std::chrono::seconds(1));
}
#else
const auto kTypes = testing::Values("unix_socket", "shm");
#endif
INSTANTIATE_TEST_SUITE_P(BetweenProcesses, Transfer, kTypes,
                         [](const auto& parameter) { return std::string(parameter.param); });

// The same file with the same configuration, whose type keeps both ends in one process: two threads.
TEST(TransferWithinOneProcess, ALargeFileArrivesWithEveryByteOverLoopback) {
  const TestFolder folder;
  const std::string input = folder.write_noise("sent", kFileBytes);
  auto host = Host::load(shipped_config(folder, "loopback"));
  ASSERT_TRUE(host.success()) << host.text();
  auto server = host.value->create("", Role::SERVER);
  auto client = host.value->create("", Role::CLIENT);
  ASSERT_TRUE(server.success()) << server.text();
  ASSERT_TRUE(client.success()) << client.text();

  std::ofstream output(folder.path("received"), std::ios::binary);
  std::promise<TransportError> ended;
  server.value->setViewCallback([&](const MessageView& message) {
    output.write(reinterpret_cast<const char*>(message.payload.data()),
                 static_cast<std::streamsize>(message.payload.size()));
  });
  server.value->setPeerCallback([&](const PeerEvent& event) {
    if (event.kind == PeerEvent::Kind::DISCONNECTED) ended.set_value(event.reason);
  });
  for (Transport* side : {server.value.get(), client.value.get()}) {
    ASSERT_TRUE(side->start().success());
    const auto connected = side->connect();
    ASSERT_TRUE(connected.success()) << connected.text();
  }
  std::ifstream file(input, std::ios::binary);
  std::vector<char> piece(client.value->getInfo().max_message_size);
  while (file.read(piece.data(), static_cast<std::streamsize>(piece.size())).gcount() > 0) {
    MessageView message;
    message.payload = std::as_bytes(std::span(piece).first(static_cast<std::size_t>(file.gcount())));
    const auto sent = client.value->send(message);
    ASSERT_TRUE(sent.success()) << sent.text();
  }
  const auto closed = client.value->disconnect();
  ASSERT_TRUE(closed.success()) << closed.text();
  auto end = ended.get_future();
  ASSERT_EQ(end.wait_for(kWatchdog), std::future_status::ready);
  EXPECT_EQ(end.get(), TransportError::CONNECTION_CLOSED);
  server.value->stop();
  output.close();
  EXPECT_EQ(sha256(folder.path("received")), sha256(input));
}

}  // namespace
}  // namespace cdmf::ipc::test
