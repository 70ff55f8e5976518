// Who gets in, and what is refused before anything starts: through the plugin as programs load it.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <map>
#include <string>

#include "ipc/service_proxy.h"
#include "ipc/service_stub.h"
#include "ipc/transport.h"
#include "support/eventually.h"
#include "unit/plugins/grpc/plugin.h"

namespace cdmf::ipc {
namespace {

using Properties = std::map<std::string, std::string>;
using namespace std::chrono_literals;

class GrpcSecurity : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = (std::filesystem::temp_directory_path() / ("cdmf-grpc-" + std::to_string(getpid()))).string();
    const std::string command = std::string(std::getenv("CDMF_MAKE_CERTIFICATES")) + " '" + folder_ + "'";
    ASSERT_EQ(std::system(command.c_str()), 0);
  }
  static void TearDownTestSuite() { std::filesystem::remove_all(folder_); }

  static std::string file(const char* name) { return folder_ + '/' + name; }
  static Properties tls(const char* cert, const char* key) {
    return {{"tls_ca", file("ca.pem")}, {"tls_cert", file(cert)}, {"tls_key", file(key)}};
  }
  static Properties with(Properties all, const char* name, const std::string& value) {
    all[name] = value;
    return all;
  }
  static TransportResult<> bring_up(Transport& transport, Role role, const Properties& properties,
                                    std::chrono::milliseconds patience = 1s) {
    TransportConfig config;
    config.endpoint = "/grpc_security_" + std::to_string(getpid());
    config.role = role;
    config.properties = properties;
    config.connect_timeout = 30s;
    config.auto_reconnect = false;
    if (auto result = transport.init(config); !result.success()) return result;
    if (auto result = transport.start(); !result.success()) return result;
    return role == Role::SERVER ? transport.connect() : transport.connect(patience);
  }
  static void expect_refused(const Properties& properties, const std::string& word) {
    Transport server(plugin());
    const auto result = bring_up(server, Role::SERVER, properties);
    EXPECT_FALSE(result.success()) << word;
    EXPECT_NE(result.error_message.find(word), std::string::npos) << "no \"" << word << "\" in: " << result.text();
  }

  static inline std::string folder_;
};

TEST_F(GrpcSecurity, WhatIsConfiguredWrongIsRefusedByTheNameOfTheOptionOrFile) {
  const Properties good = tls("server.pem", "server.key");
  expect_refused({}, "tls_ca");
  expect_refused(with(good, "tls_ca", ""), "tls_ca");
  expect_refused(with(good, "tls_cert", ""), "tls_cert");
  expect_refused(with(good, "tls_key", ""), "tls_key");
  expect_refused(with(good, "tls_ca", "/nonexistent/ca.pem"), "/nonexistent/ca.pem");
  expect_refused(with(good, "tls_cert", "/nonexistent/server.pem"), "/nonexistent/server.pem");
  expect_refused(with(good, "tls_ca", file("server.key")), "server.key");
  expect_refused(with(good, "tls_cert", file("expired.pem")), "expired.pem");
  expect_refused(with(good, "tls_key", file("client.key")), "client.key");
  expect_refused(with(good, "tls_key", file("server.pem")), "server.pem");
  expect_refused(with(good, "insecure", "true"), "insecure");
  expect_refused({{"insecure", "true"}, {"address", "0.0.0.0:7443"}}, "allow_remote_insecure");
  expect_refused(with(good, "address", "nowhere"), "nowhere");
  ASSERT_EQ(chmod(file("stranger.key").c_str(), 0644), 0);
  expect_refused(with(with(good, "tls_cert", file("stranger.pem")), "tls_key", file("stranger.key")), "chmod 0600");
  ASSERT_EQ(chmod(file("stranger.key").c_str(), 0600), 0);
}

TEST_F(GrpcSecurity, OnlyCertificatesOfTheAuthorityAndOfTheListAreLetIn) {
  Transport server(plugin());
  auto result = bring_up(server, Role::SERVER, with(tls("server.pem", "server.key"), "allow_peers", "test-client"));
  ASSERT_TRUE(result.success()) << result.text();
  {
    Transport friendly(plugin());
    result = bring_up(friendly, Role::CLIENT, tls("client.pem", "client.key"), 30s);
    EXPECT_TRUE(result.success()) << result.text();
  }
  Transport stranger(plugin());
  EXPECT_FALSE(bring_up(stranger, Role::CLIENT, tls("stranger.pem", "stranger.key")).success());
  Transport unlisted(plugin());
  result = bring_up(unlisted, Role::CLIENT, tls("server.pem", "server.key"), 30s);
  EXPECT_EQ(result.error, TransportError::PERMISSION_DENIED) << result.text();
  Transport suspicious(plugin());
  EXPECT_FALSE(bring_up(suspicious, Role::CLIENT, with(tls("client.pem", "client.key"), "tls_ca", file("other_ca.pem")))
                   .success());
  Transport elsewhere(plugin());
  EXPECT_FALSE(
      bring_up(elsewhere, Role::CLIENT, with(tls("client.pem", "client.key"), "tls_server_name", "bank.example"))
          .success());
  Transport plain(plugin());
  EXPECT_FALSE(bring_up(plain, Role::CLIENT, {{"insecure", "true"}}).success());
}

TEST_F(GrpcSecurity, BothEndsAreToldTheSubjectOfTheOther) {
  std::promise<std::string> client_is;
  std::promise<std::string> server_is;
  Transport server(plugin());
  server.setPeerCallback([&](const PeerEvent& event) {
    if (event.kind == PeerEvent::Kind::CONNECTED) client_is.set_value(event.identity);
  });
  auto result = bring_up(server, Role::SERVER, tls("server.pem", "server.key"));
  ASSERT_TRUE(result.success()) << result.text();
  Transport client(plugin());
  client.setPeerCallback([&](const PeerEvent& event) {
    if (event.kind == PeerEvent::Kind::CONNECTED) server_is.set_value(event.identity);
  });
  result = bring_up(client, Role::CLIENT, tls("client.pem", "client.key"), 30s);
  ASSERT_TRUE(result.success()) << result.text();
  const std::string name = client_is.get_future().get();
  EXPECT_NE(name.find("CN=test-client"), std::string::npos) << name;
  EXPECT_NE(name.find("O=cdmf"), std::string::npos) << name;
  EXPECT_NE(server_is.get_future().get().find("CN=localhost"), std::string::npos);
}

TEST_F(GrpcSecurity, AHandlerIsToldWhoCalls) {
  auto serving = std::make_unique<Transport>(plugin());
  auto result = bring_up(*serving, Role::SERVER, tls("server.pem", "server.key"));
  ASSERT_TRUE(result.success()) << result.text();
  ServiceStub stub(std::move(serving));
  const auto answer = [](IncomingCall& call) { (void)call.reply(call.identity()); };
  ASSERT_TRUE(stub.on("who", answer).success());
  ASSERT_TRUE(stub.on("who_on_pool", answer, RunOn::POOL).success());
  ASSERT_TRUE(stub.start().success());
  auto calling = std::make_unique<Transport>(plugin());
  result = bring_up(*calling, Role::CLIENT, tls("client.pem", "client.key"), 30s);
  ASSERT_TRUE(result.success()) << result.text();
  ServiceProxy proxy(std::move(calling));
  for (const char* method : {"who", "who_on_pool"}) {
    const auto name = proxy.call<std::string>(method, std::string(), 30s);
    ASSERT_TRUE(name.success()) << name.text();
    EXPECT_NE(name.value.find("CN=test-client"), std::string::npos) << name.value;
  }
}

TEST_F(GrpcSecurity, FilesThatChangeCountForTheNextConnection) {
  const auto copy = [](const char* from, const char* to) {
    std::filesystem::copy_file(file(from), file("fresh"), std::filesystem::copy_options::overwrite_existing);
    std::filesystem::rename(file("fresh"), file(to));
  };
  copy("client.pem", "changing.pem");
  copy("client.key", "changing.key");
  copy("ca.pem", "changing_ca.pem");
  Properties properties = with(tls("server.pem", "server.key"), "tls_ca", file("changing_ca.pem"));
  properties["tls_refresh"] = "1s";
  Transport server(plugin());
  auto result = bring_up(server, Role::SERVER, properties);
  ASSERT_TRUE(result.success()) << result.text();
  Transport before(plugin());
  result = bring_up(before, Role::CLIENT, tls("client.pem", "client.key"), 30s);
  ASSERT_TRUE(result.success()) << result.text();
  copy("other_ca.pem", "changing_ca.pem");  // From now on the server trusts somebody else.
  const auto connects = [&](const char* cert, const char* key) {
    Transport client(plugin());
    return bring_up(client, Role::CLIENT, tls(cert, key), 5s).success();
  };
  EXPECT_TRUE(testing::eventually([&] { return !connects("client.pem", "client.key"); }));
  EXPECT_TRUE(connects("stranger.pem", "stranger.key"));
  EXPECT_TRUE(before.isConnected()) << "what was connected stays so";
  EXPECT_TRUE(before.send(MessageView{}).success());
}

TEST_F(GrpcSecurity, OverTcpTheNameOfTheServerIsCheckedAndAPortIsTakenOnce) {
  // A port that was free a moment ago.
  const int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in here{};
  here.sin_family = AF_INET;
  here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof here;
  ASSERT_EQ(bind(probe, reinterpret_cast<sockaddr*>(&here), size), 0);
  ASSERT_EQ(getsockname(probe, reinterpret_cast<sockaddr*>(&here), &size), 0);
  close(probe);
  const std::string port = std::to_string(ntohs(here.sin_port));
  Transport server(plugin());
  auto result = bring_up(server, Role::SERVER, with(tls("server.pem", "server.key"), "address", "127.0.0.1:" + port));
  ASSERT_TRUE(result.success()) << result.text();
  Transport second(plugin());
  result = bring_up(second, Role::SERVER, with(tls("server.pem", "server.key"), "address", "127.0.0.1:" + port));
  EXPECT_EQ(result.error, TransportError::ENDPOINT_IN_USE) << result.text();
  for (const char* host : {"127.0.0.1", "localhost"}) {
    Transport client(plugin());
    result = bring_up(client, Role::CLIENT,
                      with(tls("client.pem", "client.key"), "address", std::string(host) + ":" + port), 30s);
    EXPECT_TRUE(result.success()) << host << ": " << result.text();
  }
  Transport misled(plugin());
  Properties properties = with(tls("client.pem", "client.key"), "address", "127.0.0.1:" + port);
  properties["tls_server_name"] = "bank.example";
  EXPECT_FALSE(bring_up(misled, Role::CLIENT, properties).success());
}

TEST_F(GrpcSecurity, TheServerSpeaksTls13AndNothingBelow12) {
  const std::string socket = file("socket");
  Transport server(plugin());
  const auto result =
      bring_up(server, Role::SERVER, with(tls("server.pem", "server.key"), "address", "unix:" + socket));
  ASSERT_TRUE(result.success()) << result.text();
  const auto handshake = [&](const std::string& words) {
    const std::string command = "openssl s_client -unix '" + socket + "' -alpn h2 -CAfile '" + file("ca.pem") +
                                "' -cert '" + file("client.pem") + "' -key '" + file("client.key") + "' " + words +
                                " </dev/null 2>&1";
    std::FILE* const pipe = popen(command.c_str(), "r");
    std::string output;
    std::array<char, 4096> part{};
    for (std::size_t n = 0; (n = std::fread(part.data(), 1, part.size(), pipe)) != 0;) output.append(part.data(), n);
    pclose(pipe);
    return output;
  };
  EXPECT_NE(handshake("").find("New, TLSv1.3"), std::string::npos) << handshake("");
  EXPECT_NE(handshake("-tls1_2").find("New, TLSv1.2"), std::string::npos) << handshake("-tls1_2");
  const std::string old = handshake("-tls1_1 -cipher ALL:@SECLEVEL=0");
  EXPECT_NE(old.find("CONNECTED"), std::string::npos) << old;
  EXPECT_NE(old.find("New, (NONE)"), std::string::npos) << old;
}

}  // namespace
}  // namespace cdmf::ipc
