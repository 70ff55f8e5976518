// Arbitrary contents of a segment, put there by a peer between and during our own looks at it. Two ways:
//
//   ring     both ends of the record ring, on memory that the input fills: what is delivered lies in the ring, nothing
//            is delivered without end, and a fault is for ever.
//   driver   a server of ours with a real link, in both trust modes: what it hands out lies where it should, what is
//            copied does not change any more, the link ends with a reason, and a good link beside it works on.
#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "checksum.h"
#include "handshake.h"
#include "ring/record_consumer.h"
#include "ring/record_producer.h"
#include "segment/endpoint.h"
#include "unit/plugins/shm/driver_under_test.h"

namespace {

using namespace cdmf::ipc;
using namespace cdmf::ipc::shm;
namespace test = cdmf::ipc::shm::testing;
using test::DriverUnderTest;
using test::in_ms;
using test::Message;

constexpr std::uint64_t kMessageMax = 1000;
constexpr std::uint64_t kFrameMax = kMessageMax + CDMF_FRAME_OVERHEAD_MAX;

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

/// The input, read from the front; zeros when it is used up.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), left_(size) {}
  bool empty() const { return left_ == 0; }
  template <typename Number>
  Number next() {
    Number number{};
    const std::size_t size = std::min(sizeof number, left_);
    std::memcpy(&number, data_, size);
    data_ += size;
    left_ -= size;
    return number;
  }

 private:
  const std::uint8_t* data_;
  std::size_t left_;
};

void store(std::byte* at, std::uint32_t word) {
  std::atomic_ref<std::uint32_t>(*reinterpret_cast<std::uint32_t*>(at)).store(word);
}
/// A word that leads further than chance would: about half are commit words of a lap that is due.
std::uint32_t word_of(Input& input) {
  const auto kind = input.next<std::uint8_t>();
  const auto value = input.next<std::uint32_t>();
  return kind % 2 == 0 ? value : commit_word(kind >> 4, value % 4096);
}

void fill_ring(Input& input) {
  constexpr std::uint64_t kBytes = 1024;
  struct alignas(kSharedBlockBytes) Memory {
    RecordRingControl control;
    std::byte bytes[kBytes];
  };
  const auto memory = std::make_unique<Memory>();
  const RecordRingMemory ring{&memory->control, memory->bytes, kBytes};
  RecordConsumer consumer(ring);
  RecordProducer producer(ring);
  auto* const all = reinterpret_cast<std::byte*>(memory.get());
  std::vector<std::uint64_t> held;
  std::uint64_t position = 0;
  while (!input.empty()) {
    const auto command = input.next<std::uint8_t>();
    switch (command % 8) {
      case 0:
      case 1:
      case 2: {
        store(all + input.next<std::uint16_t>() % sizeof(Memory) / 4 * 4, word_of(input));
        break;
      }
      case 3: {  // A producer that means well, on memory that does not.
        const ClaimOutcome outcome = producer.claim(command * 4u);
        if (outcome == ClaimOutcome::corrupt)
          require(producer.fault() != RingFault::none, "a corrupt ring has a fault");
        if (outcome != ClaimOutcome::claimed) break;
        const auto payload = producer.payload();
        require(payload.data() >= memory->bytes && payload.data() + payload.size() <= memory->bytes + kBytes,
                "a claim lies in the ring");
        std::memset(payload.data(), command, payload.size());
        producer.commit(payload.size(), 0, 0);
        if (command & 0x80) producer.flush();
        break;
      }
      case 4: {
        RecordView views[8];
        const RingFault before = consumer.fault();
        const std::size_t count = consumer.receive_burst(views);
        require(before == RingFault::none || count == 0, "a fault is for ever");
        for (std::size_t i = 0; i < count; ++i) {
          require(views[i].payload >= memory->bytes + kEnvelopeBytes &&
                      views[i].payload + views[i].payload_bytes <= memory->bytes + kBytes,
                  "a record lies in the ring");
          require(views[i].begin >= position && views[i].end > views[i].begin, "positions grow");
          position = views[i].end;
          if ((command & 0x40) != 0 && consumer.hold(views[i].begin)) held.push_back(views[i].begin);
        }
        require(consumer.occupied_bytes() <= kBytes, "no more than a ring is occupied");
        if (count != 0 && (command & 0x80) == 0) consumer.release(views[count - 1]);
        break;
      }
      case 5:
        if (held.empty()) break;
        require(consumer.release_held(held.back()), "what is held can be released");
        held.pop_back();
        break;
      case 6:
        (void)ring_has_room(ring, command);
        (void)producer.used_bytes();
        (void)consumer.has_input();
        consumer.publish_head();
        break;
      default:
        require(count_unreleased(ring) <= kBytes / kLineBytes, "there are no more records than lines");
        break;
    }
  }
}

/// One server per trust mode, with a good client; they live as long as the program.
struct Beside {
  explicit Beside(const char* trust)
      : endpoint(test::unique_endpoint()),
        options{{"trust", trust}, {"wait", "spin"}, {"ring_buffer_capacity", "64"}, {"slot_size", "64"}},
        server(CDMF_ROLE_SERVER, endpoint, options, kMessageMax),
        client(CDMF_ROLE_CLIENT, endpoint, options, kMessageMax) {
    require(server.open() == CDMF_OK && client.open() == CDMF_OK && client.attach() == CDMF_OK, "the good link");
    good = server.next_peer();
    client.next_peer();
  }
  void check() {
    require(client.send(client.peer, "still there?") == CDMF_OK, "the good client sends");
    Message message = server.next();
    require(message.peer == good && message.content == "still there?", "the good client is heard");
    require(server.send(good, "yes") == CDMF_OK && client.next().content == "yes", "the good client is answered");
  }
  std::string endpoint;
  test::Options options;
  DriverUnderTest server;
  DriverUnderTest client;
  cdmf_peer good = CDMF_NO_PEER;
};

void fill_segment(Input& input, bool hostile) {
  static Beside cooperative("cooperative");
  static Beside distrusting("hostile");
  Beside& beside = hostile ? distrusting : cooperative;
  DriverUnderTest& server = beside.server;
  cdmf_error text{};
  ErrorText error(&text);
  std::string path;
  UniqueFd socket;
  ClientHandshake handshake;
  require(socket_path(beside.endpoint.c_str(), path, error) == CDMF_OK &&
              connect_endpoint(path, in_ms(test::kPatienceMs), socket, error) == CDMF_OK &&
              handshake.run(socket.get(), kFrameMax, true, in_ms(test::kPatienceMs), error) == CDMF_OK,
          text.message);
  const cdmf_peer peer = server.next_peer();
  const RecordRingMemory to_us = handshake.segment.tx();
  auto* const all = reinterpret_cast<std::byte*>(&handshake.segment.control());
  RecordProducer producer(to_us);
  bool alive = true;
  while (!input.empty() && alive) {
    const auto command = input.next<std::uint8_t>();
    switch (command % 4) {
      case 0:  // A word of the control block.
        store(all + input.next<std::uint16_t>() % sizeof(SegmentControl) / 4 * 4, word_of(input));
        break;
      case 1:  // A word of the rings.
        store(all + kRingsOffset + input.next<std::uint16_t>() % (2 * to_us.capacity_bytes) / 4 * 4, word_of(input));
        break;
      case 2: {
        const std::string content(1 + command, 'p');
        if (producer.claim(content.size()) == ClaimOutcome::claimed) {
          std::memcpy(producer.payload().data(), content.data(), content.size());
          producer.commit(content.size(), 0, crc32_ieee(content.data(), content.size()));
          producer.flush();
        }
        break;
      }
      default: {
        if (command & 0x80) {
          const cdmf_status status = server.send(peer, std::string(1 + command * 4u, 's'));
          require(status == CDMF_OK || status == CDMF_BUFFER_FULL || status == CDMF_PROTOCOL_ERROR,
                  "what sending says");
          if (status == CDMF_BUFFER_FULL)
            (void)server->await_space(server.self(), peer, 100, monotonic_now_ns() + 1000);
        }
        cdmf_view views[6];
        const std::size_t count = server->receive_burst(server.self(), views, std::size(views));
        require(count <= std::size(views), "no more views than asked for");
        std::vector<std::string> copies;
        for (std::size_t i = 0; i < count; ++i) {
          if (views[i].kind == CDMF_VIEW_PEER_DISCONNECTED) {
            require(views[i].peer == peer && views[i].reason == CDMF_PROTOCOL_ERROR, "how it ends");
            alive = false;
          }
          if (views[i].kind != CDMF_VIEW_MESSAGE) continue;
          require(views[i].peer == peer && views[i].size != 0 && views[i].size <= kFrameMax, "a message");
          copies.emplace_back(static_cast<const char*>(views[i].frame), views[i].size);
        }
        if (hostile && count != 0) {  // What was handed out is a copy: nothing that is written now changes it.
          std::memset(to_us.bytes, command, to_us.capacity_bytes);
          std::size_t at = 0;
          for (std::size_t i = 0; i < count; ++i) {
            if (views[i].kind != CDMF_VIEW_MESSAGE) continue;
            require(std::memcmp(views[i].frame, copies[at].data(), copies[at].size()) == 0, "a copy stays as it was");
            ++at;
          }
        }
        if (count != 0) server->release_burst(server.self());
        break;
      }
    }
  }
  shutdown(socket.get(), SHUT_RDWR);
  while (alive) {
    const Message message = server.next();
    require(message.kind != test::kNothing, "the link ends");
    if (message.kind != CDMF_VIEW_PEER_DISCONNECTED) continue;
    require(message.reason == CDMF_PROTOCOL_ERROR || message.reason == CDMF_PEER_DIED, "why it ends");
    alive = false;
  }
  beside.check();
}

}  // namespace

/// The first byte chooses.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  Input input(data + 1, size - 1);
  if (data[0] % 4 < 2) {
    fill_ring(input);
  } else {
    fill_segment(input, data[0] % 4 == 3);
  }
  return 0;
}
