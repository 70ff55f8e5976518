// The C table itself: what ipc/plugin_abi.h promises to Transport, which hides some of it from programs, so that only a
// caller of the table can see it broken.
#include <algorithm>
#include <cstring>

#include "conformance/harness.h"
#include "ipc/driver.h"
#include "ipc/property.h"

namespace cdmf::ipc::conformance {
namespace {

constexpr std::uint64_t kMillisecond = 1'000'000;

/// A copy of a view.
struct Seen {
  std::uint32_t kind = 0;
  cdmf_peer peer = CDMF_NO_PEER;
  cdmf_status reason = CDMF_OK;
  std::string bytes;
  bool aligned = true;
};

/// One driver, called by one thread.
class End {
 public:
  End(const std::string& endpoint, cdmf_role role) : settings_(make_settings(plugin(), own_properties())) {
    cdmf_config config{};
    config.struct_size = sizeof config;
    config.role = role;
    config.endpoint = endpoint.c_str();
    config.max_message_size = std::min<std::uint64_t>(4096, plugin().max_message_size_limit);
    config.frame_size_max = frame_size_max = config.max_message_size + CDMF_FRAME_OVERHEAD_MAX;
    config.settings = settings_.rows.data();
    config.setting_count = settings_.rows.size();
    error.struct_size = sizeof error;
    EXPECT_EQ(plugin().create(nullptr, &config, &driver_, &error), CDMF_OK) << error.message;
  }
  End(const End&) = delete;
  End& operator=(const End&) = delete;
  ~End() { driver_.ops->destroy(driver_.self); }

  const cdmf_driver_ops* operator->() const { return driver_.ops; }
  [[nodiscard]] void* self() const { return driver_.self; }

  cdmf_status open() { return driver_.ops->open(self(), &error); }
  cdmf_status attach(cdmf_peer& peer) { return driver_.ops->attach(self(), soon(), &peer, &error); }

  /// One burst, given back.
  std::vector<Seen> take() {
    cdmf_view views[8];
    const std::size_t count = driver_.ops->receive_burst(self(), views, std::size(views));
    EXPECT_LE(count, std::size(views));
    std::vector<Seen> seen;
    for (std::size_t i = 0; i < std::min(count, std::size(views)); ++i) {
      Seen each{views[i].kind, views[i].peer, views[i].reason, {}, true};
      if (each.kind == CDMF_VIEW_MESSAGE) {
        each.aligned = reinterpret_cast<std::uintptr_t>(views[i].frame) % CDMF_FRAME_ALIGNMENT == 0;
        each.bytes.assign(static_cast<const char*>(views[i].frame), views[i].size);
      }
      seen.push_back(std::move(each));
    }
    if (count != 0) driver_.ops->release_burst(self());
    return seen;
  }
  /// Everything until something of that kind came.
  std::vector<Seen> take_until(std::uint32_t kind) {
    std::vector<Seen> all;
    EXPECT_TRUE(eventually([&] {
      for (Seen& each : take()) all.push_back(std::move(each));
      return std::any_of(all.begin(), all.end(), [&](const Seen& each) { return each.kind == kind; });
    })) << "nothing of kind "
        << kind << " came";
    return all;
  }
  /// The peer that comes next.
  cdmf_peer take_peer() {
    const auto seen = take_until(CDMF_VIEW_PEER_CONNECTED);
    return seen.empty() ? CDMF_NO_PEER : seen.back().peer;
  }
  cdmf_status send(cdmf_peer peer, std::string_view bytes, bool flush = true) {
    cdmf_loan loan{};
    const cdmf_status status = driver_.ops->claim(self(), peer, bytes.size(), &loan);
    if (status != CDMF_OK) return status;
    std::memcpy(loan.memory, bytes.data(), bytes.size());
    return driver_.ops->commit(self(), &loan, bytes.size(), flush ? 1 : 0);
  }
  static std::uint64_t soon(std::uint64_t from = monotonic_now_ns()) {
    return from + static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(watchdog()).count());
  }

  std::size_t frame_size_max = 0;
  cdmf_error error{};

 private:
  static std::map<std::string, std::string> own_properties() {
    auto own = subject().properties;
    for (const cdmf_property& common : common_properties()) own.erase(common.name);
    return own;
  }

  Settings settings_;
  cdmf_driver driver_{};
};

class Driver : public ::testing::Test {
 protected:
  /// A server and a client that know each other.
  void meet() {
    ASSERT_EQ(server.open(), CDMF_OK) << server.error.message;
    ASSERT_EQ(client.open(), CDMF_OK) << client.error.message;
    attach();
  }
  void attach() {
    ASSERT_EQ(client.attach(to_server), CDMF_OK) << client.error.message;
    const auto first = client.take_until(CDMF_VIEW_PEER_CONNECTED);
    ASSERT_EQ(first.size(), 1u);
    EXPECT_EQ(first[0].peer, to_server);
    to_client = server.take_peer();
  }
  const std::string endpoint = fresh_endpoint();
  End server{endpoint, CDMF_ROLE_SERVER};
  End client{endpoint, CDMF_ROLE_CLIENT};
  cdmf_peer to_server = CDMF_NO_PEER;
  cdmf_peer to_client = CDMF_NO_PEER;
};

TEST_F(Driver, HasAWholeTableAndNoExtensionThatNobodyKnows) {
  EXPECT_GE(server->struct_size, sizeof(cdmf_driver_ops));
  EXPECT_EQ(server->get_extension(server.self(), "no such extension"), nullptr);
  EXPECT_EQ(plugin().get_extension("no such extension"), nullptr);
}

TEST_F(Driver, AnswersAtOnceWhenNobodyListensAndHasOneServerAtATime) {
  ASSERT_EQ(client.open(), CDMF_OK);
  EXPECT_EQ(client->attach(client.self(), kForever, &to_server, &client.error), CDMF_ENDPOINT_NOT_FOUND);
  EXPECT_STRNE(client.error.message, "");
  ASSERT_EQ(server.open(), CDMF_OK);
  attach();
  cdmf_peer another = CDMF_NO_PEER;
  EXPECT_EQ(client.attach(another), CDMF_ALREADY_INITIALIZED);
}

TEST_F(Driver, AnnouncesAPeerOnceAndItsEndOnceWithAReason) {
  meet();
  for (int i = 0; i < 50; ++i) ASSERT_EQ(client.send(to_server, "frame"), CDMF_OK);
  EXPECT_EQ(client->disconnect(client.self(), to_server, CDMF_CONNECTION_CLOSED), CDMF_OK);
  const auto ours = client.take_until(CDMF_VIEW_PEER_DISCONNECTED);
  ASSERT_EQ(ours.size(), 1u);
  EXPECT_EQ(ours[0].reason, CDMF_CONNECTION_CLOSED);
  EXPECT_EQ(client->disconnect(client.self(), to_server, CDMF_CONNECTION_CLOSED), CDMF_NOT_CONNECTED);
  auto theirs = server.take_until(CDMF_VIEW_PEER_DISCONNECTED);
  ASSERT_EQ(theirs.size(), 51u) << "50 frames and the end";
  for (std::size_t i = 0; i < 50; ++i) EXPECT_EQ(theirs[i].kind, static_cast<std::uint32_t>(CDMF_VIEW_MESSAGE));
  for (const Seen& each : theirs) EXPECT_EQ(each.peer, to_client);
  EXPECT_EQ(theirs.back().reason, CDMF_CONNECTION_CLOSED);
  EXPECT_TRUE(server.take().empty());
  EXPECT_TRUE(client.take().empty());
}

TEST_F(Driver, WaitsEndAtTheirDeadlineAndNotBefore) {
  meet();
  for (const std::uint64_t wait : {1 * kMillisecond, 40 * kMillisecond}) {
    const std::uint64_t deadline = monotonic_now_ns() + wait;
    cdmf_status status = CDMF_OK;
    while ((status = server->await_messages(server.self(), deadline)) == CDMF_OK) EXPECT_TRUE(server.take().empty());
    EXPECT_EQ(status, CDMF_TIMEOUT);
    EXPECT_GE(monotonic_now_ns(), deadline) << "await_messages";
  }
  const std::string frame(1000, 'x');
  int frames = 0;
  while (client.send(to_server, frame) != CDMF_BUFFER_FULL) ASSERT_LT(++frames, 1'000'000) << "there is no bound";
  for (const std::uint64_t wait : {1 * kMillisecond, 40 * kMillisecond}) {
    const std::uint64_t deadline = monotonic_now_ns() + wait;
    cdmf_status status = CDMF_OK;
    while ((status = client->await_space(client.self(), to_server, frame.size(), deadline)) == CDMF_OK) {
      // What the kernel has taken meanwhile is room; it does not last.
      ASSERT_LT(monotonic_now_ns(), End::soon(deadline)) << "there is always room";
      while (client.send(to_server, frame) == CDMF_OK) ASSERT_LT(++frames, 1'000'000) << "there is no bound";
    }
    EXPECT_EQ(status, CDMF_TIMEOUT);
    EXPECT_GE(monotonic_now_ns(), deadline) << "await_space";
  }
}

TEST_F(Driver, AnInterruptEndsTheNextWaitOfEachKind) {
  meet();
  const std::string frame(1000, 'x');
  while (client.send(to_server, frame) == CDMF_OK) {
  }
  for (int i = 0; i < 3; ++i) {
    client->interrupt(client.self());
    cdmf_status status = CDMF_OK;
    while ((status = client->await_messages(client.self(), End::soon())) == CDMF_OK) {
    }
    ASSERT_EQ(status, CDMF_INTERRUPTED);
    while ((status = client->await_space(client.self(), to_server, frame.size(), End::soon())) == CDMF_OK) {
      while (client.send(to_server, frame) == CDMF_OK) {
      }
    }
    ASSERT_EQ(status, CDMF_INTERRUPTED);
  }
}

TEST_F(Driver, ClaimsAreAlignedMemoryOfTheSizeAskedForOrAReason) {
  meet();
  cdmf_loan loan{};
  for (const std::size_t size : {std::size_t{1}, std::size_t{17}, std::size_t{64}, std::size_t{1000}}) {
    ASSERT_EQ(client->claim(client.self(), to_server, size, &loan), CDMF_OK);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(loan.memory) % CDMF_FRAME_ALIGNMENT, 0u);
    EXPECT_EQ(loan.peer, to_server);
    EXPECT_EQ(loan.size, size);
    std::memset(loan.memory, 1, size);
    cdmf_loan second{};
    EXPECT_EQ(client->claim(client.self(), to_server, size, &second), CDMF_RESOURCE_EXHAUSTED);
    client->abort(client.self(), &loan);
  }
  EXPECT_EQ(client->claim(client.self(), to_server, client.frame_size_max + 1, &loan), CDMF_BUFFER_OVERFLOW);
  EXPECT_EQ(client->claim(client.self(), to_server + 1000, 1, &loan), CDMF_NOT_CONNECTED);
  ASSERT_EQ(client.send(to_server, "last"), CDMF_OK);
  const auto seen = server.take_until(CDMF_VIEW_MESSAGE);
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].bytes, "last");
}

TEST_F(Driver, FramesArriveAlignedWithTheBytesOfTheirCommit) {
  meet();
  for (const std::size_t size :
       {std::size_t{1}, std::size_t{15}, std::size_t{16}, std::size_t{100}, std::size_t{4000}}) {
    cdmf_loan loan{};
    ASSERT_EQ(client->claim(client.self(), to_server, client.frame_size_max, &loan), CDMF_OK);
    const std::string bytes = pattern(size, size);
    std::memcpy(loan.memory, bytes.data(), size);
    ASSERT_EQ(client->commit(client.self(), &loan, size, 1), CDMF_OK);
    const auto seen = server.take_until(CDMF_VIEW_MESSAGE);
    ASSERT_EQ(seen.size(), 1u);
    EXPECT_TRUE(seen[0].aligned);
    EXPECT_EQ(seen[0].bytes, bytes);
    EXPECT_EQ(seen[0].peer, to_client);
  }
}

TEST_F(Driver, MayBeClosedTwiceAndOpenedAgain) {
  meet();
  cdmf_loan loan{};
  ASSERT_EQ(client->claim(client.self(), to_server, 100, &loan), CDMF_OK);
  std::vector<cdmf_peer> before{to_server, to_client};
  client->close(client.self());
  client->close(client.self());
  server->close(server.self());
  server->close(server.self());
  std::memset(loan.memory, 1, 100);
  EXPECT_EQ(client->commit(client.self(), &loan, 100, 1), CDMF_CONNECTION_CLOSED);
  meet();
  EXPECT_NE(to_server, before[0]) << "a peer id was used twice";
  EXPECT_NE(to_client, before[1]) << "a peer id was used twice";
  ASSERT_EQ(client.send(to_server, "again"), CDMF_OK);
  EXPECT_EQ(server.take_until(CDMF_VIEW_MESSAGE).back().bytes, "again");
}

TEST_F(Driver, TellsWhatIsInForce) {
  meet();
  for (const End* end : {&server, &client}) {
    cdmf_info info{};
    info.struct_size = sizeof info;
    (*end)->describe(end->self(), &info);
    EXPECT_GE(info.frame_size_max, end->frame_size_max);
    ASSERT_NE(info.address, nullptr);
    EXPECT_STRNE(info.address, "");
    EXPECT_NE(info.detail, nullptr);
  }
}

}  // namespace
}  // namespace cdmf::ipc::conformance
