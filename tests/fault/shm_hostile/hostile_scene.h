#pragma once
// shm_hostile/hostile_scene.h: a link of ours whose other end, and whose memory, are in the hands of a test.
#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include "shm_hostile/peers.h"

namespace cdmf::ipc::shm::hostile {

struct Mode {
  const char* trust;
  const char* wait;
};
inline constexpr Mode kModes[] = {{"cooperative", "adaptive"}, {"cooperative", "futex"}, {"cooperative", "spin"},
                                  {"hostile", "adaptive"},     {"hostile", "futex"},     {"hostile", "spin"}};

inline Options options_of(const Mode& mode) {
  return {{"trust", mode.trust},
          {"wait", mode.wait},
          {"ring_buffer_capacity", std::to_string(kPlan.ring_capacity)},
          {"slot_size", std::to_string(kPlan.slot_size)}};
}

/// A link of ours whose other end is in our hands.
class Scene {
 public:
  virtual ~Scene() = default;
  virtual DriverUnderTest& ours() = 0;
  virtual cdmf_peer peer() const = 0;
  virtual Segment& segment() = 0;
  virtual RecordRingMemory to_us() = 0;    // The hostile peer is its producer.
  virtual RecordRingMemory from_us() = 0;  // It is its consumer.
};

class ClientScene final : public Scene {
 public:
  explicit ClientScene(GoodPair& pair) : pair_(pair), client_(pair.endpoint) {
    EXPECT_TRUE(client_.shake_hands(true)) << client_.text.message;
    peer_ = pair.server.next_peer();
  }
  ~ClientScene() override {
    shutdown(client_.fd(), SHUT_RDWR);
    // Its end, if it was not seen yet.
    while (pair_.server.send(peer_, "x") != CDMF_NOT_CONNECTED) {
      if (pair_.server.next().kind == testing::kNothing) return;
    }
  }
  DriverUnderTest& ours() override { return pair_.server; }
  cdmf_peer peer() const override { return peer_; }
  Segment& segment() override { return client_.handshake.segment; }
  RecordRingMemory to_us() override { return segment().tx(); }
  RecordRingMemory from_us() override { return segment().rx(); }

 private:
  GoodPair& pair_;
  RawClient client_;
  cdmf_peer peer_ = CDMF_NO_PEER;
};

class ServerScene final : public Scene {
 public:
  explicit ServerScene(const Options& options)
      : server_([this](int socket) {
          if (!hear_hello(socket)) return;
          offer_.welcome.may_sleep = 1;
          offer_.say_to(socket);
          until_hung_up(socket);
        }),
        client_(CDMF_ROLE_CLIENT, server_.endpoint, options) {
    EXPECT_EQ(client_.open(), CDMF_OK) << client_.error.message;
    EXPECT_EQ(client_.attach(), CDMF_OK) << client_.error.message;
    EXPECT_EQ(client_.next().kind, kConnected);
  }
  ~ServerScene() override { client_.close(); }
  DriverUnderTest& ours() override { return client_; }
  cdmf_peer peer() const override { return client_.peer; }
  Segment& segment() override { return offer_.segment; }
  RecordRingMemory to_us() override { return segment().rx(); }
  RecordRingMemory from_us() override { return segment().tx(); }

 private:
  Offer offer_;
  RawServer server_;
  DriverUnderTest client_;
};

/// Written as a peer would: whole words, without a lock.
template <typename Word>
void scribble(void* at, Word value) {
  std::atomic_ref<Word>(*static_cast<Word*>(at)).store(value);
  ++counts().writes;
}
inline std::uint32_t load(const void* at) {
  return std::atomic_ref<std::uint32_t>(*static_cast<std::uint32_t*>(const_cast<void*>(at))).load();
}

/// Sends to the hostile peer until that fails, at most so often.
inline cdmf_status send_until_it_fails(Scene& scene, int times = 100) {
  cdmf_status status = CDMF_OK;
  for (int i = 0; i < times && status == CDMF_OK; ++i) {
    status = scene.ours().send(scene.peer(), std::string(1000, 's'));
  }
  return status;
}
inline bool put(RecordProducer& producer, const std::string& content, std::uint32_t checksum) {
  if (producer.claim(content.size()) != ClaimOutcome::claimed) return false;
  std::memcpy(producer.payload().data(), content.data(), content.size());
  producer.commit(content.size(), 0, checksum);
  return producer.flush();
}
inline bool put(RecordProducer& producer, const std::string& content) {
  return put(producer, content, crc32_ieee(content.data(), content.size()));
}

inline void write_first_word(Scene& scene, std::uint32_t word) { scribble(scene.to_us().bytes, word); }

/// The good pair beside, once for each mode.
class HostileMemory : public ::testing::TestWithParam<Mode> {
 protected:
  std::unique_ptr<Scene> scene(bool hostile_server) {
    if (hostile_server) return std::make_unique<ServerScene>(options_of(GetParam()));
    return std::make_unique<ClientScene>(pair);
  }
  void count_case() {
    const bool first =
        std::string_view(GetParam().trust) == kModes[0].trust && std::string_view(GetParam().wait) == kModes[0].wait;
    ++(first ? counts().cases : counts().runs);
  }

  Log log;
  GoodPair pair{options_of(GetParam()), log.host()};
};

}  // namespace cdmf::ipc::shm::hostile
