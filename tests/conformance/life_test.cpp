// Life: what init, connect, disconnect and stop promise whatever carries the bytes.
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "conformance/harness.h"
#include "ipc/property.h"

namespace cdmf::ipc::conformance {
namespace {

TEST(Life, TheDescriptorIsSound) {
  const cdmf_plugin& it = plugin();
  EXPECT_EQ(it.magic, CDMF_PLUGIN_MAGIC);
  EXPECT_EQ(it.abi_major, CDMF_ABI_MAJOR);
  EXPECT_LE(it.min_host_minor, CDMF_ABI_MINOR);
  EXPECT_EQ(std::filesystem::path(subject().path).filename(), "libcdmf_" + std::string(it.type) + ".so");
  for (const char* text : {it.version, it.license, it.summary, it.vendor}) EXPECT_NE(text, nullptr);
  EXPECT_STRNE(it.summary, "");
  for (std::size_t i = 0; i < it.property_count; ++i) {
    const cdmf_property& row = it.properties[i];
    EXPECT_STRNE(row.summary, "") << row.name;
    EXPECT_EQ(find_property(it, row.name), &row) << row.name << " is there twice";
    for (const cdmf_property& common : common_properties()) EXPECT_STRNE(row.name, common.name);
    if (row.default_text == nullptr) continue;
    EXPECT_EQ(check_value(row, row.default_text).problem, "") << row.name;
  }
}

TEST(Life, StatesFollowTheCallsOnBothSides) {
  const std::string endpoint = fresh_endpoint();
  Record server_record;
  Record client_record;
  Transport server(plugin());
  Transport client(plugin());
  server_record.listen(server);
  client_record.listen(client);
  bring_up(server, config_for(endpoint, Role::SERVER));
  bring_up(client, config_for(endpoint, Role::CLIENT));
  EXPECT_TRUE(server.isConnected());
  EXPECT_TRUE(client.isConnected());
  ASSERT_TRUE(eventually([&] { return server.getPeers().size() == 1 && client.getPeers().size() == 1; }));
  EXPECT_TRUE(client.disconnect().success());
  EXPECT_EQ(client.getState(), TransportState::STARTED);
  ASSERT_TRUE(server_record.wait_for_gone(1));
  EXPECT_EQ(server_record.gone()[0].reason, TransportError::CONNECTION_CLOSED);
  EXPECT_TRUE(server.isConnected()) << "a server stays when a client leaves";
  EXPECT_TRUE(client.connect().success());
  EXPECT_TRUE(client.send(text("again")).success());
  ASSERT_TRUE(server_record.wait_for_messages(1));
  client.stop();
  server.stop();
  EXPECT_EQ(client.getState(), TransportState::INITIALIZED);
  const auto expected =
      std::vector{TransportState::INITIALIZED, TransportState::STARTED,   TransportState::CONNECTED,
                  TransportState::STARTED,     TransportState::CONNECTED, TransportState::INITIALIZED};
  EXPECT_EQ(client_record.states(), expected);
}

TEST(Life, CallsInAnyOrderAreAnsweredByTheStateTheyFind) {
  enum Call { INIT, START, CONNECT, DISCONNECT, STOP, CLEANUP, CALLS };
  using enum TransportState;
  constexpr int kLength = 4;
  int sequences = 1;
  for (int i = 0; i < kLength; ++i) sequences *= CALLS;
  const std::string endpoint = fresh_endpoint();
  for (int number = 0; number < sequences; number += 1) {
    Transport server(plugin());
    TransportState expected = UNINITIALIZED;
    std::string told;
    for (int rest = number, i = 0; i < kLength; ++i, rest /= CALLS) {
      auto error = TransportError::SUCCESS;
      auto wanted = TransportError::SUCCESS;
      told += std::to_string(rest % CALLS);
      switch (rest % CALLS) {
        case INIT:
          wanted = expected == UNINITIALIZED ? wanted : TransportError::ALREADY_INITIALIZED;
          error = server.init(config_for(endpoint, Role::SERVER)).error;
          if (expected == UNINITIALIZED) expected = INITIALIZED;
          break;
        case START:
          wanted = expected == UNINITIALIZED ? TransportError::NOT_INITIALIZED
                   : expected == INITIALIZED ? wanted
                                             : TransportError::ALREADY_INITIALIZED;
          error = server.start().error;
          if (expected == INITIALIZED) expected = STARTED;
          break;
        case CONNECT:
          wanted = expected == STARTED || expected == CONNECTED ? wanted : TransportError::NOT_INITIALIZED;
          error = server.connect().error;
          if (expected == STARTED) expected = CONNECTED;
          break;
        case DISCONNECT:
          error = server.disconnect().error;
          if (expected == CONNECTED) expected = STARTED;
          break;
        case STOP:
          server.stop();
          if (expected != UNINITIALIZED) expected = INITIALIZED;
          break;
        default:
          server.cleanup();
          expected = UNINITIALIZED;
      }
      ASSERT_EQ(error, wanted) << "calls " << told;
      ASSERT_EQ(server.getState(), expected) << "calls " << told;
      ASSERT_FALSE(server.send(text("x"), {.timeout = 0ms}).success()) << "to nobody, calls " << told;
    }
  }
}

TEST(Life, WithoutAServerAClientIsToldSoAfterItsTimeAndNotBefore) {
  Transport client(plugin());
  ASSERT_TRUE(client.init(config_for(fresh_endpoint(), Role::CLIENT)).success());
  ASSERT_TRUE(client.start().success());
  EXPECT_EQ(client.connect(0ms).error, TransportError::ENDPOINT_NOT_FOUND);
  const auto before = Clock::now();
  const auto result = client.connect(80ms);
  EXPECT_GE(Clock::now() - before, 80ms);
  EXPECT_EQ(result.error, TransportError::ENDPOINT_NOT_FOUND) << result.text();
  EXPECT_NE(result.error_message, "");
  EXPECT_EQ(client.getState(), TransportState::STARTED);
}

TEST(Life, AClientMayComeBeforeItsServer) {
  const std::string endpoint = fresh_endpoint();
  Transport server(plugin());
  Transport client(plugin());
  ASSERT_TRUE(client.init(config_for(endpoint, Role::CLIENT)).success());
  ASSERT_TRUE(client.start().success());
  std::thread later([&] { bring_up(server, config_for(endpoint, Role::SERVER)); });
  EXPECT_TRUE(client.connect().success());
  later.join();
}

TEST(Life, AnEndpointHasOneServerAndIsFreeAgainAfterIt) {
  CDMF_NEEDS_NO(CDMF_CAP_POOL);
  const std::string endpoint = fresh_endpoint();
  Transport first(plugin());
  Transport second(plugin());
  bring_up(first, config_for(endpoint, Role::SERVER));
  ASSERT_TRUE(second.init(config_for(endpoint, Role::SERVER)).success());
  ASSERT_TRUE(second.start().success());
  const auto result = second.connect();
  EXPECT_EQ(result.error, TransportError::ENDPOINT_IN_USE) << result.text();
  EXPECT_NE(result.error_message, "");
  first.stop();
  EXPECT_TRUE(second.connect().success());
}

TEST(Life, TwoTransportsOfOneTypeDoNotMeet) {
  const std::string endpoints[2] = {fresh_endpoint(), fresh_endpoint()};
  Record records[2];
  Transport servers[2] = {Transport(plugin()), Transport(plugin())};
  Transport clients[2] = {Transport(plugin()), Transport(plugin())};
  for (int i = 0; i < 2; ++i) {
    records[i].listen(servers[i]);
    bring_up(servers[i], config_for(endpoints[i], Role::SERVER));
    bring_up(clients[i], config_for(endpoints[i], Role::CLIENT));
  }
  for (int round = 0; round < 100; ++round) {
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(clients[i].send(text(i == 0 ? "first" : "second")).success());
  }
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(records[i].wait_for_messages(100));
    for (const Message& each : records[i].messages()) EXPECT_EQ(each.getPayloadText(), i == 0 ? "first" : "second");
  }
}

TEST(Life, AClientFindsItsRestartedServerByItself) {
  const std::string endpoint = fresh_endpoint();
  Record record;
  Record served[3];
  auto server = std::make_unique<Transport>(plugin());
  Transport client(plugin());
  record.listen(client);
  bring_up(*server, config_for(endpoint, Role::SERVER));
  bring_up(client, config_for(endpoint, Role::CLIENT));
  for (Record& each : served) {
    const std::vector<PeerId> before = client.getPeers();
    server.reset();
    ASSERT_TRUE(eventually([&] { return client.getState() != TransportState::CONNECTED; }));
    server = std::make_unique<Transport>(plugin());
    each.listen(*server);
    bring_up(*server, config_for(endpoint, Role::SERVER));
    ASSERT_TRUE(eventually([&] { return client.isConnected(); }));
    EXPECT_NE(client.getPeers(), before) << "a peer id was used twice";
    ASSERT_TRUE(client.send(text("hello again")).success());
    ASSERT_TRUE(each.wait_for_messages(1));
  }
  ASSERT_TRUE(eventually([&] { return record.events().size() == 7; }));  // The last arrival is told, too.
  client.stop();
  EXPECT_EQ(record.gone().size(), 4u);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(record.gone()[i].reason, TransportError::CONNECTION_CLOSED);
}

TEST(Life, AfterForkTheChildIsRefusedAndTheParentGoesOn) {
  const std::string endpoint = fresh_endpoint();
  Record record;
  Transport server(plugin());
  auto client = std::make_unique<Transport>(plugin());
  record.listen(server);
  bring_up(server, config_for(endpoint, Role::SERVER));
  bring_up(*client, config_for(endpoint, Role::CLIENT));
  ASSERT_TRUE(client->send(text("before")).success());
  ASSERT_TRUE(record.wait_for_messages(1));
  const pid_t child = fork();
  if (child == 0) {
    int wrong = 0;
    wrong |= client->send(text("x")).error == TransportError::UNSUPPORTED ? 0 : 1;
    wrong |= client->connect().error == TransportError::UNSUPPORTED ? 0 : 2;
    wrong |= client->loan(1).error == TransportError::UNSUPPORTED ? 0 : 4;
    wrong |= client->flush().error == TransportError::UNSUPPORTED ? 0 : 8;
    client.reset();  // Must end nothing of the parent's.
    _exit(wrong);
  }
  int status = -1;
  ASSERT_TRUE(eventually([&] { return waitpid(child, &status, WNOHANG) == child; }));
  EXPECT_TRUE(WIFEXITED(status)) << "a signal ended the child: " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  ASSERT_TRUE(client->send(text("after")).success());
  ASSERT_TRUE(record.wait_for_messages(2));
  EXPECT_EQ(record.gone().size(), 0u);
  client->stop();
  server.stop();
}

TEST(Life, InfoTellsWhereItIs) {
  const std::string endpoint = fresh_endpoint();
  Transport server(plugin());
  bring_up(server, config_for(endpoint, Role::SERVER));
  const TransportInfo info = server.getInfo();
  EXPECT_EQ(info.type, plugin().type);
  EXPECT_EQ(info.endpoint, endpoint);
  EXPECT_NE(info.address, "");
  EXPECT_EQ(info.role, Role::SERVER);
  EXPECT_EQ(info.max_message_size, payload_bytes_max());
}

// ---- Nothing is left over -------------------------------------------------------------------------------------------

struct Resources {
  std::size_t descriptors = 0;
  std::size_t threads = 0;
  std::size_t mappings = 0;
  std::size_t shared_objects = 0;

  static std::size_t entries(const char* folder) {
    std::size_t count = 0;
    std::error_code gone;  // Threads and files of others may vanish while this looks.
    for (auto it = std::filesystem::directory_iterator(folder, gone); it != std::filesystem::directory_iterator();
         it.increment(gone)) {
      ++count;
    }
    return count;
  }
  static Resources now() {
    Resources here;
    here.descriptors = entries("/proc/self/fd");
    here.threads = entries("/proc/self/task");
    std::FILE* maps = std::fopen("/proc/self/maps", "re");
    for (int c; maps != nullptr && (c = std::fgetc(maps)) != EOF;) here.mappings += c == '\n' ? 1 : 0;
    if (maps != nullptr) std::fclose(maps);
    std::error_code none;
    for (const auto& entry : std::filesystem::directory_iterator("/dev/shm", none)) {
      here.shared_objects += entry.path().string().find("conformance_" + std::to_string(getpid())) != std::string::npos;
    }
    return here;
  }
};

TEST(Life, TwoHundredLivesLeaveNothingBehind) {
  const auto one_life = [](int i) {
    const std::string endpoint = fresh_endpoint();
    Transport server(plugin());
    Transport client(plugin());
    std::atomic<int> got{0};
    server.setViewCallback([&](const MessageView&) { ++got; });
    bring_up(server, config_for(endpoint, Role::SERVER));
    bring_up(client, config_for(endpoint, Role::CLIENT));
    ASSERT_TRUE(client.send(text("x")).success());
    ASSERT_TRUE(eventually([&] { return got == 1; }));
    if (i % 2 == 0) client.cleanup();  // Each side goes first now and then.
    server.cleanup();
  };
  for (int i = 0; i < 10; ++i) one_life(i);  // Whatever is made once and kept.
  const Resources before = Resources::now();
  for (int i = 0; i < 200; ++i) {
    one_life(i);
    if (HasFatalFailure()) return;
  }
  // A joined thread may stand in /proc a moment longer, and a library close a socket a moment after it was told to.
  EXPECT_TRUE(eventually([&] { return Resources::now().threads <= before.threads; })) << Resources::now().threads;
  EXPECT_TRUE(eventually([&] { return Resources::now().descriptors <= before.descriptors; }))
      << Resources::now().descriptors << " descriptors, " << before.descriptors << " before";
  const Resources after = Resources::now();
  EXPECT_LT(after.mappings, before.mappings + 40) << "the allocator may keep a few, 200 lives may not leave one each";
  EXPECT_EQ(after.shared_objects, 0u);
}

}  // namespace
}  // namespace cdmf::ipc::conformance
