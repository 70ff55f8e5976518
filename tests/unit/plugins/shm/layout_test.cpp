// LAYOUT.md against the code: every structure that two processes share is described there, byte by byte, and the
// description is not about some other version. A row without a field, a field without a row, another offset or another
// type fails here.

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#include "handshake.h"
#include "inspect/look.h"
#include "inspect/observer_notes.h"
#include "pool/pool_layout.h"
#include "ring/record_ring.h"
#include "segment/segment.h"

namespace cdmf::ipc::shm {
namespace {

struct Field {
  std::string offset;
  std::string type;
  bool operator==(const Field&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Field& field) {
  return out << field.type << " at offset " << field.offset;
}
struct Structure {
  std::string size;
  std::map<std::string, Field> fields;
};
using Structures = std::map<std::string, Structure>;

template <typename T>
struct Plain {
  using type = T;
};
template <typename T>
struct Plain<std::atomic<T>> {
  using type = T;
};

/// As LAYOUT.md writes it: u32, i32; the number of bytes for what is not a number.
template <typename Member>
std::string type_word() {
  using T = typename Plain<Member>::type;
  if constexpr (std::is_enum_v<T>) {
    return type_word<std::underlying_type_t<T>>();
  } else if constexpr (std::is_integral_v<T>) {
    return (std::is_signed_v<T> ? "i" : "u") + std::to_string(8 * sizeof(T));
  } else {
    return std::to_string(sizeof(T));
  }
}

#define CDMF_FIELD(structure, member)                                                                  \
  {                                                                                                    \
#member, { std::to_string(offsetof(structure, member)), type_word<decltype(structure::member)>() } \
  }

Structures of_the_code() {
  return {
      {"PacketHeader",
       {std::to_string(sizeof(PacketHeader)),
        {CDMF_FIELD(PacketHeader, magic), CDMF_FIELD(PacketHeader, major), CDMF_FIELD(PacketHeader, minor),
         CDMF_FIELD(PacketHeader, kind)}}},
      {"Hello",
       {std::to_string(sizeof(Hello)),
        {CDMF_FIELD(Hello, header), CDMF_FIELD(Hello, may_sleep), CDMF_FIELD(Hello, only_cpu),
         CDMF_FIELD(Hello, features), CDMF_FIELD(Hello, frame_size_max), CDMF_FIELD(Hello, ring_bytes)}}},
      {"Welcome",
       {std::to_string(sizeof(Welcome)),
        {CDMF_FIELD(Welcome, header), CDMF_FIELD(Welcome, status), CDMF_FIELD(Welcome, may_sleep),
         CDMF_FIELD(Welcome, ring_capacity), CDMF_FIELD(Welcome, slot_size), CDMF_FIELD(Welcome, bidirectional),
         CDMF_FIELD(Welcome, checksum), CDMF_FIELD(Welcome, only_cpu), CDMF_FIELD(Welcome, frame_size_max),
         CDMF_FIELD(Welcome, text), CDMF_FIELD(Welcome, features), CDMF_FIELD(Welcome, reserved)}}},
      {"Ack", {std::to_string(sizeof(Ack)), {CDMF_FIELD(Ack, header)}}},
      {"Notice", {std::to_string(sizeof(Notice)), {CDMF_FIELD(Notice, header), CDMF_FIELD(Notice, reason)}}},
      {"Look", {std::to_string(sizeof(Look)), {CDMF_FIELD(Look, header), CDMF_FIELD(Look, reserved)}}},
      {"Page",
       {std::to_string(sizeof(Page)), {CDMF_FIELD(Page, header), CDMF_FIELD(Page, status), CDMF_FIELD(Page, text)}}},
      {"PageHeader",
       {std::to_string(sizeof(PageHeader)),
        {CDMF_FIELD(PageHeader, magic), CDMF_FIELD(PageHeader, version), CDMF_FIELD(PageHeader, total_bytes),
         CDMF_FIELD(PageHeader, endpoint_bytes), CDMF_FIELD(PageHeader, link_bytes), CDMF_FIELD(PageHeader, ring_bytes),
         CDMF_FIELD(PageHeader, reserved), CDMF_FIELD(PageHeader, link_count), CDMF_FIELD(PageHeader, ring_count),
         CDMF_FIELD(PageHeader, reserved2)}}},
      {"SegmentControl",
       {std::to_string(sizeof(SegmentControl)),
        {CDMF_FIELD(SegmentControl, header), CDMF_FIELD(SegmentControl, server), CDMF_FIELD(SegmentControl, client),
         CDMF_FIELD(SegmentControl, counts), CDMF_FIELD(SegmentControl, tx), CDMF_FIELD(SegmentControl, rx)}}},
      {"SegmentHeader",
       {std::to_string(sizeof(SegmentHeader)),
        {CDMF_FIELD(SegmentHeader, magic), CDMF_FIELD(SegmentHeader, version), CDMF_FIELD(SegmentHeader, total_size),
         CDMF_FIELD(SegmentHeader, ring_capacity), CDMF_FIELD(SegmentHeader, slot_size),
         CDMF_FIELD(SegmentHeader, minor), CDMF_FIELD(SegmentHeader, features),
         CDMF_FIELD(SegmentHeader, frame_size_max), CDMF_FIELD(SegmentHeader, tx_offset),
         CDMF_FIELD(SegmentHeader, rx_offset), CDMF_FIELD(SegmentHeader, checksum), CDMF_FIELD(SegmentHeader, reserved),
         CDMF_FIELD(SegmentHeader, generation)}}},
      {"SegmentEnd",
       {std::to_string(sizeof(SegmentEnd)),
        {CDMF_FIELD(SegmentEnd, facts), CDMF_FIELD(SegmentEnd, stage), CDMF_FIELD(SegmentEnd, goodbye)}}},
      {"EndFacts",
       {std::to_string(sizeof(EndFacts)),
        {CDMF_FIELD(EndFacts, pid), CDMF_FIELD(EndFacts, minor), CDMF_FIELD(EndFacts, may_sleep),
         CDMF_FIELD(EndFacts, only_cpu)}}},
      {"SegmentCounts",
       {std::to_string(sizeof(SegmentCounts)),
        {CDMF_FIELD(SegmentCounts, reader_count), CDMF_FIELD(SegmentCounts, writer_count)}}},
      {"RecordRingControl",
       {std::to_string(sizeof(RecordRingControl)),
        {CDMF_FIELD(RecordRingControl, tail), CDMF_FIELD(RecordRingControl, records_flushed),
         CDMF_FIELD(RecordRingControl, claims_refused), CDMF_FIELD(RecordRingControl, high_water),
         CDMF_FIELD(RecordRingControl, wakes), CDMF_FIELD(RecordRingControl, space_waits),
         CDMF_FIELD(RecordRingControl, space_wanted), CDMF_FIELD(RecordRingControl, writing_from),
         CDMF_FIELD(RecordRingControl, written_to), CDMF_FIELD(RecordRingControl, head),
         CDMF_FIELD(RecordRingControl, records_taken), CDMF_FIELD(RecordRingControl, armed)}}},
      {"ObserverNotes",
       {std::to_string(sizeof(ObserverNotes)),
        {CDMF_FIELD(ObserverNotes, sequence), CDMF_FIELD(ObserverNotes, endpoint_bytes),
         CDMF_FIELD(ObserverNotes, link_bytes), CDMF_FIELD(ObserverNotes, reserved),
         CDMF_FIELD(ObserverNotes, endpoint), CDMF_FIELD(ObserverNotes, link)}}},
      {"PoolControl",
       {std::to_string(sizeof(PoolControl)),
        {CDMF_FIELD(PoolControl, header), CDMF_FIELD(PoolControl, changes), CDMF_FIELD(PoolControl, broken),
         CDMF_FIELD(PoolControl, consumers), CDMF_FIELD(PoolControl, producers)}}},
      {"PoolHeader",
       {std::to_string(sizeof(PoolHeader)),
        {CDMF_FIELD(PoolHeader, magic), CDMF_FIELD(PoolHeader, version), CDMF_FIELD(PoolHeader, total_size),
         CDMF_FIELD(PoolHeader, ring_capacity), CDMF_FIELD(PoolHeader, slot_size), CDMF_FIELD(PoolHeader, kind),
         CDMF_FIELD(PoolHeader, members_max), CDMF_FIELD(PoolHeader, creator_pid), CDMF_FIELD(PoolHeader, checksum),
         CDMF_FIELD(PoolHeader, frame_size_max), CDMF_FIELD(PoolHeader, members_offset),
         CDMF_FIELD(PoolHeader, ring_offset), CDMF_FIELD(PoolHeader, reserved)}}},
      {"PoolSleepers", {std::to_string(sizeof(PoolSleepers)), {CDMF_FIELD(PoolSleepers, bits)}}},
      {"PoolMember",
       {std::to_string(sizeof(PoolMember)),
        {CDMF_FIELD(PoolMember, role), CDMF_FIELD(PoolMember, pid), CDMF_FIELD(PoolMember, wakes),
         CDMF_FIELD(PoolMember, space_waits), CDMF_FIELD(PoolMember, receiver), CDMF_FIELD(PoolMember, sender)}}},
      {"MpmcRecordControl",
       {std::to_string(sizeof(MpmcRecordControl)),
        {CDMF_FIELD(MpmcRecordControl, tail), CDMF_FIELD(MpmcRecordControl, head),
         CDMF_FIELD(MpmcRecordControl, tombstones)}}},
      {"MpmcParticipant",
       {std::to_string(sizeof(MpmcParticipant)),
        {CDMF_FIELD(MpmcParticipant, producing), CDMF_FIELD(MpmcParticipant, consuming),
         CDMF_FIELD(MpmcParticipant, state), CDMF_FIELD(MpmcParticipant, retries), CDMF_FIELD(MpmcParticipant, refused),
         CDMF_FIELD(MpmcParticipant, high_water)}}},
      {"MpmcSlot",
       {std::to_string(sizeof(MpmcSlot)),
        {CDMF_FIELD(MpmcSlot, word), CDMF_FIELD(MpmcSlot, owner), CDMF_FIELD(MpmcSlot, losses),
         CDMF_FIELD(MpmcSlot, envelope)}}},
  };
}

/// The tables under headings like "### Name: 12 bytes".
Structures of_the_page() {
  const char* const path = std::getenv("CDMF_SHM_LAYOUT");
  std::ifstream page(path == nullptr ? "" : path);
  EXPECT_TRUE(page) << "CDMF_SHM_LAYOUT must name LAYOUT.md";
  Structures found;
  Structure* current = nullptr;
  for (std::string line; std::getline(page, line);) {
    if (line.starts_with("#")) current = nullptr;
    if (line.starts_with("### ") && line.ends_with(" bytes") && line.find(": ") != std::string::npos) {
      const auto colon = line.find(": ");
      current = &found[line.substr(4, colon - 4)];
      current->size = line.substr(colon + 2, line.rfind(' ') - colon - 2);
    }
    if (current == nullptr || !line.starts_with("| ") || line.starts_with("| offset")) continue;
    std::istringstream row(line);
    std::string bar;
    std::string offset;
    std::string type;
    std::string field;
    row >> bar >> offset >> bar >> type >> bar >> field;
    EXPECT_TRUE(current->fields.emplace(field, Field{offset, type}).second) << field << " has two rows";
  }
  return found;
}

TEST(Layout, PageSaysWhatTheCodeDoes) {
  const Structures code = of_the_code();
  const Structures page = of_the_page();
  for (const auto& [name, structure] : code) {
    ASSERT_TRUE(page.contains(name)) << name << " has no table in LAYOUT.md";
    const Structure& described = page.at(name);
    EXPECT_EQ(described.size, structure.size) << "bytes of " << name;
    for (const auto& [field, place] : structure.fields) {
      if (described.fields.contains(field)) {
        EXPECT_EQ(described.fields.at(field), place) << name << "." << field;
      } else {
        ADD_FAILURE() << name << "." << field << " is not in LAYOUT.md";
      }
    }
    for (const auto& [field, place] : described.fields) {
      EXPECT_TRUE(structure.fields.contains(field)) << "LAYOUT.md has " << name << "." << field << ", the code has not";
    }
  }
  for (const auto& [name, structure] : page) EXPECT_TRUE(code.contains(name)) << name << " is not compared here";
}

/// A field that is in neither list would be a gap: between two fields of this list nothing has room.
TEST(Layout, EveryByteOfAStructureIsAFieldOfIt) {
  const auto bytes_of = [](const std::string& type) {
    return type[0] == 'u' || type[0] == 'i' ? std::stoul(type.substr(1)) / 8 : std::stoul(type);
  };
  for (const auto& [name, structure] : of_the_code()) {
    // These are spread over lines of their own.
    if (name == "SegmentControl" || name == "RecordRingControl" || name == "PoolControl" || name == "PoolSleepers" ||
        name == "PoolMember" || name == "MpmcRecordControl" || name == "MpmcParticipant") {
      continue;
    }
    std::size_t sum = 0;
    for (const auto& [field, place] : structure.fields) sum += bytes_of(place.type);
    EXPECT_EQ(std::to_string(sum), structure.size) << name;
  }
}

TEST(Layout, VersionOnThePageIsTheCodes) {
  std::ifstream page(std::getenv("CDMF_SHM_LAYOUT"));
  std::stringstream text;
  text << page.rdbuf();
  EXPECT_NE(text.str().find("Version " + std::to_string(kVersionMajor) + '.' + std::to_string(kVersionMinor) + ' '),
            std::string::npos);
}

}  // namespace
}  // namespace cdmf::ipc::shm
