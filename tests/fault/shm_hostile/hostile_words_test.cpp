// Peers that put anything at all into each word of the memory they share with us, while messages flow.
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "shm_hostile/hostile_scene.h"

namespace cdmf::ipc::shm::hostile {
namespace {

/// One turn of both directions, as a peer that behaves would have it, whatever was scribbled before. Ours sends until
/// the ring is full, and thus looks at every word there is. True: the link lives.
bool exchange(Scene& scene, RecordProducer& producer, RecordConsumer& consumer, bool with_waits) {
  DriverUnderTest& ours = scene.ours();
  put(producer, "from the peer");
  for (int turn = 0; turn < 3; ++turn) {
    for (const Message& message : ours.take()) {
      if (message.kind == kDisconnected) {
        EXPECT_EQ(message.reason, CDMF_PROTOCOL_ERROR);
        return false;
      }
      EXPECT_EQ(message.content, "from the peer");
    }
  }
  const cdmf_status status = send_until_it_fails(scene);
  if (status != CDMF_BUFFER_FULL) {
    EXPECT_EQ(status, CDMF_PROTOCOL_ERROR);
    EXPECT_EQ(ours.next().kind, kDisconnected);
    return false;
  }
  if (with_waits) {
    const cdmf_status waited = ours->await_space(ours.self(), scene.peer(), 1000, monotonic_now_ns() + 1000);
    EXPECT_TRUE(waited == CDMF_OK || waited == CDMF_TIMEOUT) << waited;
    (void)ours->await_messages(ours.self(), monotonic_now_ns() + 1000);
  }
  RecordView view;
  while (consumer.receive(view)) consumer.release(view);
  return true;
}

TEST_P(HostileMemory, EveryWordOfTheControlBlockMayHoldAnythingWhileMessagesFlow) {
  std::mt19937 random(2026);
  for (const bool hostile_server : {false, true}) {
    std::unique_ptr<Scene> set;
    std::unique_ptr<RecordProducer> producer;
    std::unique_ptr<RecordConsumer> consumer;
    std::uint64_t lives = 0;
    for (std::size_t word = 0; word < sizeof(SegmentControl) / 4; ++word) {
      for (int value = 0; value < 8; ++value) {
        if (!set) {
          set = scene(hostile_server);
          producer = std::make_unique<RecordProducer>(set->to_us());
          consumer = std::make_unique<RecordConsumer>(set->from_us());
          for (int i = 0; i < 5; ++i) ASSERT_TRUE(exchange(*set, *producer, *consumer, false));
          ++lives;
        }
        SCOPED_TRACE(std::string(hostile_server ? "server" : "client") + ", offset " + std::to_string(word * 4) +
                     ", value " + std::to_string(value));
        std::byte* const at = reinterpret_cast<std::byte*>(&set->segment().control()) + word * 4;
        const std::uint32_t was = load(at);
        const std::uint32_t wild[] = {0,        1,         2,          was + 64,
                                      was - 64, INT32_MAX, UINT32_MAX, static_cast<std::uint32_t>(random())};
        scribble(at, wild[value]);
        bool alive = true;
        for (int turn = 0; turn < 2 && alive; ++turn)
          alive = exchange(*set, *producer, *consumer, value == 7 && turn == 0);
        if (!alive) {
          ++counts().links_ended;
          set.reset();
        }
        if (value == 7) pair.expect_service();
      }
    }
    EXPECT_GT(lives, 1u) << "no scribble was ever noticed";
  }
  count_case();
}

TEST_P(HostileMemory, EveryWordOfARingMayHoldAnythingWhileMessagesFlow) {
  std::mt19937 random(7);
  for (const bool hostile_server : {false, true}) {
    std::unique_ptr<Scene> set;
    std::unique_ptr<RecordProducer> producer;
    std::unique_ptr<RecordConsumer> consumer;
    for (int step = 0; step < 3000; ++step) {
      if (!set) {
        set = scene(hostile_server);
        producer = std::make_unique<RecordProducer>(set->to_us());
        consumer = std::make_unique<RecordConsumer>(set->from_us());
      }
      SCOPED_TRACE(step);
      // Near the place that is read next, mostly: elsewhere nobody would look.
      const std::uint64_t next = set->to_us().control->tail.load() % kPlan.ring_bytes();
      const std::uint64_t near = (next + random() % 4 * kLineBytes + random() % 4 * 4) % kPlan.ring_bytes();
      std::byte* const ring = random() % 4 == 0 ? set->from_us().bytes : set->to_us().bytes;
      const std::uint64_t at = random() % 2 == 0 ? near : random() % kPlan.ring_bytes() / 4 * 4;
      const std::uint32_t stamp = static_cast<std::uint32_t>(random() % 16);
      const std::uint32_t sizes[] = {0, 1, 15, 16, 17, 64, 65, 4096, 16384, 16385, kSizeMask};
      scribble(ring + at, random() % 2 == 0 ? static_cast<std::uint32_t>(random())
                                            : commit_word(stamp, sizes[random() % std::size(sizes)]));
      std::vector<Message> got;
      bool alive = true;
      put(*producer, "from the peer");
      for (int turn = 0; turn < 2 && alive; ++turn) {
        for (const Message& message : set->ours().take()) alive = alive && message.kind != kDisconnected;
      }
      if (alive && set->ours().send(set->peer(), "to the peer") == CDMF_PROTOCOL_ERROR) {
        EXPECT_EQ(set->ours().next().kind, kDisconnected);
        alive = false;
      }
      RecordView view;
      if (alive && consumer->receive(view)) consumer->release(view);
      if (!alive || random() % 200 == 0) {
        counts().links_ended += alive ? 0 : 1;
        set.reset();
      }
      if (step % 50 == 0) pair.expect_service();
    }
  }
  count_case();
}

}  // namespace
}  // namespace cdmf::ipc::shm::hostile
