// Peers that write what they like into the memory they share with us, from either side of a link: here by the case,
// then every word in turn (hostile_words_test.cpp), then anything anywhere at any time from a process of its own
// (hostile_storm_test.cpp). Whatever stands there, our end reads inside the ring, comes to an end, and nobody else
// notices.
#include <atomic>
#include <cstddef>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "shm_hostile/hostile_scene.h"

namespace cdmf::ipc::shm::hostile {
namespace {

enum class Fate { ends, lives };
struct Case {
  const char* what;
  Fate fate;
  std::function<void(Scene&)> act;
};

/// The next record's place after a few good records.
std::byte* after_good_records(Scene& scene, std::size_t lines) {
  RecordProducer producer(scene.to_us());
  for (std::size_t i = 0; i < lines; ++i) EXPECT_TRUE(put(producer, "good"));
  for (std::size_t i = 0; i < lines; ++i) EXPECT_EQ(scene.ours().next().content, "good");
  return scene.to_us().bytes + lines * kLineBytes;
}

const Case kCases[] = {
    // What is to be read.
    {"a commit word of another lap", Fate::ends, [](Scene& s) { write_first_word(s, commit_word(9, 64)); }},
    {"a commit word of the next lap", Fate::ends, [](Scene& s) { write_first_word(s, commit_word(2, 64)); }},
    {"a commit word of the last stamp", Fate::ends, [](Scene& s) { write_first_word(s, commit_word(15, 64)); }},
    {"a commit word without a stamp", Fate::ends, [](Scene& s) { write_first_word(s, 64); }},
    {"a record of size 0", Fate::ends, [](Scene& s) { write_first_word(s, commit_word(1, 0)); }},
    {"a record of size 2", Fate::ends, [](Scene& s) { write_first_word(s, commit_word(1, 2)); }},
    {"a record smaller than its envelope", Fate::ends, [](Scene& s) { write_first_word(s, commit_word(1, 15)); }},
    {"a record of half a ring and a byte", Fate::ends,
     [](Scene& s) { write_first_word(s, commit_word(1, static_cast<std::uint32_t>(kPlan.ring_bytes() / 2 + 1))); }},
    {"a record of 256 MiB", Fate::ends, [](Scene& s) { write_first_word(s, commit_word(1, kSizeMask)); }},
    {"all ones", Fate::ends, [](Scene& s) { write_first_word(s, UINT32_MAX); }},
    {"padding of a whole ring", Fate::ends, [](Scene& s) { write_first_word(s, commit_word(1, kPaddingSize)); }},
    {"padding, and padding again", Fate::ends,
     [](Scene& s) {
       std::byte* const next = after_good_records(s, 3);
       scribble(s.to_us().bytes, commit_word(2, kPaddingSize));
       scribble(next, commit_word(1, kPaddingSize));
     }},
    {"a record over the end of the ring", Fate::ends,
     [](Scene& s) {
       std::byte* const last = after_good_records(s, kPlan.ring_bytes() / kLineBytes - 1);
       scribble(last, commit_word(1, 65));
     }},
    {"a frame of 0 bytes", Fate::ends, [](Scene& s) { write_first_word(s, commit_word(1, kEnvelopeBytes)); }},
    {"a frame one byte larger than agreed", Fate::ends,
     [](Scene& s) {
       RecordProducer producer(s.to_us());
       put(producer, std::string(kFrameMax + 1, 'f'));
     }},
    {"a checksum that does not match", Fate::lives,
     [](Scene& s) {
       RecordProducer producer(s.to_us());
       EXPECT_TRUE(put(producer, "broken", 0xBADC0DE));
       EXPECT_TRUE(put(producer, "whole"));
       EXPECT_EQ(s.ours().next().content, "whole");
     }},
    {"more broken checksums than a burst has views", Fate::lives,
     [](Scene& s) {
       RecordProducer producer(s.to_us());
       for (int i = 0; i < 60; ++i) EXPECT_TRUE(put(producer, "broken", 0xBADC0DE));
       EXPECT_TRUE(put(producer, "whole"));
       EXPECT_EQ(s.ours().next().content, "whole");
     }},
    {"a broken checksum after each whole one", Fate::lives,
     [](Scene& s) {
       RecordProducer producer(s.to_us());
       for (int i = 0; i < 300; ++i) {
         EXPECT_TRUE(put(producer, "broken", 0xBADC0DE));
         EXPECT_TRUE(put(producer, "whole"));
         EXPECT_EQ(s.ours().next().content, "whole");
       }
     }},
    {"nothing but broken checksums", Fate::ends,
     [](Scene& s) {
       RecordProducer producer(s.to_us());
       for (int i = 0; i < 65; ++i) EXPECT_TRUE(put(producer, "broken", 0xBADC0DE));
     }},
    {"more broken checksums than whole ones", Fate::ends,
     [](Scene& s) {
       RecordProducer producer(s.to_us());
       for (int i = 0; i < 40; ++i) {
         EXPECT_TRUE(put(producer, "whole"));
         for (int k = 0; k < 3; ++k) EXPECT_TRUE(put(producer, "broken", 0xBADC0DE));
       }
     }},
    {"contents changed after the flush", Fate::lives,
     [](Scene& s) {
       RecordProducer producer(s.to_us());
       EXPECT_TRUE(put(producer, std::string(500, 'a')));
       scribble(s.to_us().bytes + kEnvelopeBytes + 100, UINT32_MAX);
       EXPECT_TRUE(s.ours().take().empty());
     }},
    {"a timestamp of all ones", Fate::lives,
     [](Scene& s) {
       RecordProducer producer(s.to_us());
       EXPECT_EQ(producer.claim(1), ClaimOutcome::claimed);
       producer.payload()[0] = std::byte{'t'};
       producer.commit(1, UINT64_MAX, crc32_ieee("t", 1));
       producer.flush();
       const Message message = s.ours().next();
       EXPECT_EQ(message.content, "t");
       EXPECT_EQ(message.timestamp_us, UINT64_MAX);
     }},
    {"a tail of its own that lies", Fate::lives,
     [](Scene& s) {
       scribble(&s.to_us().control->tail, UINT64_MAX);
       scribble(&s.to_us().control->records_flushed, UINT64_MAX);
       RecordProducer producer(s.to_us());
       EXPECT_TRUE(put(producer, "read all the same"));
       EXPECT_EQ(s.ours().next().content, "read all the same");
     }},
    {"our head moved", Fate::lives,
     [](Scene& s) {
       after_good_records(s, 5);
       scribble(&s.to_us().control->head, UINT64_MAX - 63);
       EXPECT_TRUE(s.ours().take().empty());
     }},
    {"room wanted without end", Fate::lives,
     [](Scene& s) {
       RecordProducer producer(s.to_us());
       for (std::uint32_t i = 0; i < 100; ++i) {
         scribble(&s.to_us().control->space_wanted, i % 2 == 0 ? 1u : UINT32_MAX);
         EXPECT_TRUE(put(producer, "more"));
         EXPECT_EQ(s.ours().next().content, "more");
         EXPECT_TRUE(s.ours().take().empty());
       }
     }},
    {"our announcement of sleep taken back", Fate::lives,
     [](Scene& s) {
       for (const std::uint32_t word : {0u, 1u, 2u, 3u, UINT32_MAX}) {
         (void)s.ours()->arm(s.ours().self());
         scribble(&s.to_us().control->armed, word);
         RecordProducer producer(s.to_us());
         EXPECT_EQ(s.ours()->await_messages(s.ours().self(), in_ms(1)), CDMF_TIMEOUT);
       }
     }},
    // What is to be written.
    {"a head beyond what was written", Fate::ends,
     [](Scene& s) {
       scribble(&s.from_us().control->head, std::uint64_t{1} << 40);
       EXPECT_EQ(send_until_it_fails(s), CDMF_PROTOCOL_ERROR);
     }},
    {"a head one line beyond", Fate::ends,
     [](Scene& s) {
       std::uint64_t written = 0;
       while (s.ours().send(s.peer(), std::string(1000, 's')) == CDMF_OK) written += 1024;
       scribble(&s.from_us().control->head, written + 64);
       EXPECT_EQ(send_until_it_fails(s), CDMF_PROTOCOL_ERROR);
     }},
    {"a head of all ones", Fate::ends,
     [](Scene& s) {
       scribble(&s.from_us().control->head, UINT64_MAX);
       EXPECT_EQ(send_until_it_fails(s), CDMF_PROTOCOL_ERROR);
     }},
    {"a head in the middle of a line", Fate::ends,
     [](Scene& s) {
       EXPECT_EQ(send_until_it_fails(s), CDMF_BUFFER_FULL);
       scribble(&s.from_us().control->head, std::uint64_t{1025});
       EXPECT_EQ(send_until_it_fails(s), CDMF_PROTOCOL_ERROR);
     }},
    {"a head that goes back", Fate::ends,
     [](Scene& s) {
       EXPECT_EQ(send_until_it_fails(s), CDMF_BUFFER_FULL);
       scribble(&s.from_us().control->head, std::uint64_t{8192});
       EXPECT_EQ(send_until_it_fails(s), CDMF_BUFFER_FULL);
       scribble(&s.from_us().control->head, std::uint64_t{4096});
       EXPECT_EQ(send_until_it_fails(s), CDMF_PROTOCOL_ERROR);
     }},
    {"a tail that says there is room", Fate::ends,
     [](Scene& s) {
       EXPECT_EQ(send_until_it_fails(s), CDMF_BUFFER_FULL);
       scribble(&s.from_us().control->tail, std::uint64_t{0});
       EXPECT_EQ(s.ours()->await_space(s.ours().self(), s.peer(), 1000, in_ms(kPatienceMs)), CDMF_OK);
       EXPECT_EQ(send_until_it_fails(s), CDMF_PROTOCOL_ERROR);
     }},
    {"a tail of all ones", Fate::ends,
     [](Scene& s) {
       EXPECT_EQ(send_until_it_fails(s), CDMF_BUFFER_FULL);
       scribble(&s.from_us().control->tail, UINT64_MAX);
       EXPECT_EQ(send_until_it_fails(s), CDMF_PROTOCOL_ERROR);
     }},
    {"records counted wrongly", Fate::lives,
     [](Scene& s) {
       EXPECT_EQ(s.ours().send(s.peer(), "one"), CDMF_OK);
       scribble(&s.from_us().control->records_flushed, UINT64_MAX);
       EXPECT_EQ(s.ours().send(s.peer(), "two"), CDMF_OK);
       RecordConsumer consumer(s.from_us());
       RecordView view;
       EXPECT_TRUE(consumer.receive(view));
       EXPECT_TRUE(consumer.receive(view));
     }},
    {"a bell for each message", Fate::lives,
     [](Scene& s) {
       for (const std::uint32_t word : {1u, 2u, 3u, UINT32_MAX}) {
         for (int i = 0; i < 5; ++i) {
           scribble(&s.from_us().control->armed, word);
           EXPECT_EQ(s.ours().send(s.peer(), "ding"), CDMF_OK);
         }
       }
     }},
    {"our wish for room rewritten", Fate::lives,
     [](Scene& s) {
       EXPECT_EQ(send_until_it_fails(s), CDMF_BUFFER_FULL);
       scribble(&s.from_us().control->space_wanted, UINT32_MAX);
       EXPECT_EQ(s.ours()->await_space(s.ours().self(), s.peer(), 1000, in_ms(1)), CDMF_TIMEOUT);
     }},
    {"what we wrote, overwritten", Fate::lives,
     [](Scene& s) {
       EXPECT_EQ(s.ours().send(s.peer(), std::string(1000, 's')), CDMF_OK);
       for (std::size_t at = 0; at < kPlan.ring_bytes(); at += 4) scribble(s.from_us().bytes + at, UINT32_MAX);
       EXPECT_EQ(send_until_it_fails(s, 5), CDMF_OK);
     }},
    // What is for observers.
    {"a header of zeros", Fate::lives,
     [](Scene& s) {
       for (std::size_t at = 0; at < sizeof(SegmentHeader); at += 4) {
         scribble(reinterpret_cast<std::byte*>(&s.segment().header()) + at, 0u);
       }
       EXPECT_EQ(s.ours().send(s.peer(), "still"), CDMF_OK);
     }},
    {"the counts of ends and the words about both sides", Fate::lives,
     [](Scene& s) {
       for (std::size_t at = offsetof(SegmentControl, server); at < offsetof(SegmentControl, tx); at += 4) {
         scribble(reinterpret_cast<std::byte*>(&s.segment().control()) + at, UINT32_MAX);
       }
       EXPECT_EQ(s.ours().send(s.peer(), "still"), CDMF_OK);
     }},
};

TEST_P(HostileMemory, WhatCannotBeEndsItsLinkAndNoOther) {
  for (const bool hostile_server : {false, true}) {
    for (const Case& one : kCases) {
      SCOPED_TRACE(std::string(hostile_server ? "server: " : "client: ") + one.what);
      const auto set = scene(hostile_server);
      const std::size_t lines = log.size();
      one.act(*set);
      if (one.fate == Fate::ends) {
        Message end = set->ours().next();
        while (end.kind == CDMF_VIEW_MESSAGE) end = set->ours().next();
        EXPECT_EQ(end.kind, kDisconnected);
        EXPECT_EQ(end.peer, set->peer());
        EXPECT_EQ(end.reason, CDMF_PROTOCOL_ERROR);
        EXPECT_EQ(set->ours().send(set->peer(), "x"), CDMF_NOT_CONNECTED);
        if (!hostile_server) {
          EXPECT_GT(log.size(), lines) << "nothing was logged";
        }
        ++counts().links_ended;
      } else {
        EXPECT_TRUE(set->ours().take().empty());
        EXPECT_NE(set->ours().send(set->peer(), "x"), CDMF_NOT_CONNECTED);
      }
      pair.expect_service();
      count_case();
    }
  }
}

TEST_P(HostileMemory, RecordsWhereNothingWasFreedEndTheLink) {
  if (std::string(GetParam().trust) == "hostile") GTEST_SKIP() << "a held copy keeps nothing of the ring";
  for (const bool hostile_server : {false, true}) {
    SCOPED_TRACE(hostile_server ? "server" : "client");
    const auto set = scene(hostile_server);
    DriverUnderTest& ours = set->ours();
    RecordProducer producer(set->to_us());
    const std::size_t lines = kPlan.ring_bytes() / kLineBytes;
    for (std::size_t i = 0; i < lines; ++i) ASSERT_TRUE(put(producer, "once"));
    cdmf_view first;
    ASSERT_EQ(ours->receive_burst(ours.self(), &first, 1), 1u);
    std::uint64_t held = 0;
    ASSERT_EQ(ours->hold(ours.self(), first.peer, first.token, &held), CDMF_OK);
    ours->release_burst(ours.self());
    for (std::size_t i = 1; i < lines; ++i) ASSERT_EQ(ours.next().content, "once");
    write_first_word(*set, commit_word(2, kEnvelopeBytes + 4));
    const Message end = ours.next();
    EXPECT_EQ(end.kind, kDisconnected);
    EXPECT_EQ(end.reason, CDMF_PROTOCOL_ERROR);
    EXPECT_EQ(std::memcmp(first.frame, "once", 4), 0) << "what is held stays readable";
    ours->unhold(ours.self(), held);
    pair.expect_service();
    count_case();
  }
}

TEST_P(HostileMemory, APeerThatWritesOnAfterItsGoodbyeHasAnEnd) {
  RawClient client(pair.endpoint);
  ASSERT_TRUE(client.shake_hands()) << client.text.message;
  pair.server.next_peer();
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    RecordProducer producer(client.handshake.segment.tx());
    while (!stop) put(producer, "without end");
  });
  EXPECT_TRUE(say(client.fd(), Notice{}));
  Message message;
  do {
    message = pair.server.next();
  } while (message.kind == CDMF_VIEW_MESSAGE);
  EXPECT_EQ(message.kind, kDisconnected);
  stop = true;
  writer.join();
  pair.expect_service();
  count_case();
}

TEST_P(HostileMemory, ADiscardedMessageOfOnePeerGivesBackNothingOfAnother) {
  RawClient client(pair.endpoint);
  ASSERT_TRUE(client.shake_hands()) << client.text.message;
  pair.server.next_peer();
  RecordProducer producer(client.handshake.segment.tx());
  const std::string content(4000, 'x');
  for (int round = 0; round < 4; ++round) {  // The link that is looked at first changes.
    ASSERT_TRUE(put(producer, "broken", 0xBADC0DE));
    std::size_t sent = 0;
    while (pair.client.send(pair.client.peer, content) == CDMF_OK) ++sent;
    std::vector<cdmf_view> views(4 * sent);
    ASSERT_EQ(pair.server->receive_burst(pair.server.self(), views.data(), views.size()), sent);
    EXPECT_EQ(pair.client.send(pair.client.peer, content), CDMF_BUFFER_FULL) << "in round " << round;
    pair.server->release_burst(pair.server.self());
    for (int looks = 0; looks < round; ++looks) EXPECT_TRUE(pair.server.take().empty());
  }
  shutdown(client.fd(), SHUT_RDWR);
  const Message end = pair.server.next();
  EXPECT_EQ(end.kind, kDisconnected);
  EXPECT_EQ(end.lost, 4u);
  pair.expect_service();
  count_case();
}

INSTANTIATE_TEST_SUITE_P(All, HostileMemory, ::testing::ValuesIn(kModes),
                         [](const auto& mode) { return std::string(mode.param.trust) + "_" + mode.param.wait; });

}  // namespace
}  // namespace cdmf::ipc::shm::hostile
