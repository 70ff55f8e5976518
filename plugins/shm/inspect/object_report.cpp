#include "inspect/object_report.h"

#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>

#include "inspect/link_report.h"
#include "inspect/object_file.h"
#include "inspect/observer_notes.h"
#include "inspect/process_state.h"
#include "object_channel.h"
#include "wait/spinner.h"

namespace cdmf::ipc::shm {
namespace {

constexpr int kTurnsMax = 100;  // Each means that the server was just at work there.

/// What the server noted last; all zero when it notes nothing. One that was stopped while it wrote is taken half done:
/// these are figures and texts, and none leads anywhere.
void read_notes(const ObjectFile& file, Image<ObserverNotes>& notes) noexcept {
  for (int turn = 0; turn < kTurnsMax; ++turn) {
    std::uint32_t before = 0;
    std::uint32_t after = 0;
    if (!file.read(&before, sizeof before, kNotesOffset) || !notes.read(file, kNotesOffset) ||
        !file.read(&after, sizeof after, kNotesOffset)) {
      notes = {};
      return;
    }
    if (before == after && before % 2 == 0) return;
    sched_yield();
  }
}

/// A structure that an older or newer server wrote: what it did not know is 0.
template <typename T>
T known_part(const T& written, std::uint32_t bytes) noexcept {
  T part{};
  std::memcpy(static_cast<void*>(&part), &written, std::min<std::size_t>(bytes, sizeof part));
  part.struct_size = sizeof part;
  return part;
}
template <std::size_t kSize>
void end_text(char (&text)[kSize]) noexcept {
  text[kSize - 1] = '\0';
}

/// Head, tail, head again, as report_ring() wants them: each by a copy of its own.
bool report_ring_of(const ObjectFile& file, std::uint64_t offset, std::uint64_t capacity_bytes,
                    cdmf_ring_report& ring) noexcept {
  constexpr std::uint64_t kHead = offsetof(RecordRingControl, head);
  std::uint64_t before = 0;
  std::uint64_t after = 0;
  Image<RecordRingControl> control;
  if (!file.read(&before, sizeof before, offset + kHead) || !control.read(file, offset) ||
      !file.read(&after, sizeof after, offset + kHead)) {
    return false;
  }
  report_ring(control.value(), {before, control.value().tail.load(std::memory_order_relaxed), after}, capacity_bytes,
              ring);
  return true;
}

uid_t user_of(std::int32_t pid) noexcept {
  struct stat info {};
  return stat(("/proc/" + std::to_string(pid)).c_str(), &info) == 0 ? info.st_uid : static_cast<uid_t>(-1);
}

/// The object of a server that lives; not the one that it has just replaced.
cdmf_status open_living(const std::string& name, ObjectFile& file, ErrorText& error) {
  const std::string missing = "the object " + name + "; start a server or check 'endpoint'";
  for (int turn = 0; turn < kTurnsMax; ++turn) {
    if (const cdmf_status status = ObjectFile::open(name, missing.c_str(), file, error); status != CDMF_OK) {
      return status;
    }
    if (is_held_present(file.fd.get())) return CDMF_OK;
    ObjectFile now;
    struct stat was {};
    struct stat is {};
    ErrorText unheard(nullptr);
    const bool same = ObjectFile::open(name, "", now, unheard) == CDMF_OK && fstat(file.fd.get(), &was) == 0 &&
                      fstat(now.fd.get(), &is) == 0 && was.st_ino == is.st_ino;
    if (same) break;
    sched_yield();
  }
  return error.fail(CDMF_ENDPOINT_NOT_FOUND, 0, "shm: the object ", name,
                    " was left behind by a server that died; start one");
}

cdmf_status read_control(const ObjectFile& file, const std::string& name, Image<SegmentControl>& control,
                         SegmentPlan& plan, ErrorText& error) {
  if (!control.read(file, 0) || control.value().header.magic != kSegmentMagic) {
    return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the object ", name, " is of another program");
  }
  const SegmentHeader& header = control.value().header;
  if (header.version != kVersionMajor) {
    return error.fail(CDMF_VERSION_MISMATCH, 0, "shm: the object ", name, " has layout ", header.version, '.',
                      header.minor, ", this side reads ", kVersionMajor, '.', kVersionMinor,
                      "; use the same release on both sides");
  }
  if (!Segment::read_plan(header, file.size, plan)) {
    return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the header of the object ", name, " does not make sense");
  }
  return CDMF_OK;
}

}  // namespace

cdmf_status report_object(const char* endpoint, Snapshot& snapshot, ErrorText& error) {
  std::string name;
  ObjectFile file;
  Image<SegmentControl> image;
  SegmentPlan plan;
  if (const cdmf_status status = object_name(endpoint, 0, name, error); status != CDMF_OK) return status;
  if (const cdmf_status status = open_living(name, file, error); status != CDMF_OK) return status;
  if (const cdmf_status status = read_control(file, name, image, plan, error); status != CDMF_OK) return status;
  Image<ObserverNotes> notes;
  read_notes(file, notes);
  const SegmentControl& control = image.value();

  cdmf_endpoint_report& seen = snapshot.endpoint;
  seen = known_part(notes.value().endpoint, notes.value().endpoint_bytes);
  if (notes.value().endpoint_bytes == 0) seen.accepted = seen.refused = seen.ended = CDMF_UNKNOWN;
  seen.links = nullptr;
  seen.rings = nullptr;
  seen.link_count = seen.link_size = seen.ring_count = seen.ring_size = 0;
  seen.pid = control.server.facts.pid;
  seen.uid = file.owner;
  if (seen.only_cpu == kSeveralCpus || notes.value().endpoint_bytes == 0) seen.only_cpu = control.server.facts.only_cpu;
  end_text(seen.last_error_text);
  std::snprintf(seen.address, sizeof seen.address, "object %s in /dev/shm", name.c_str());
  end_text(seen.detail);
  if (is_stopped(seen.pid)) {
    const std::string detail = seen.detail;
    std::snprintf(seen.detail, sizeof seen.detail, "the server is stopped; %.150s", detail.c_str());
  }

  // ASKED and ANSWERED, and that neither side has ended it since.
  const bool stands = control.client.stage.load(std::memory_order_relaxed) == kAsks &&
                      control.server.stage.load(std::memory_order_relaxed) == kStands;
  if (stands) {
    cdmf_link_report link{};
    const auto& noted = notes.value().link;
    if (noted.peer != CDMF_NO_PEER) link = known_part(noted, notes.value().link_bytes);
    link.struct_size = sizeof link;
    if (link.peer == CDMF_NO_PEER) link.peer = 1;
    link.pid = control.client.facts.pid;
    link.uid = user_of(link.pid);
    link.message_size_max =
        plan.frame_size_max > CDMF_FRAME_OVERHEAD_MAX ? plan.frame_size_max - CDMF_FRAME_OVERHEAD_MAX : 0;
    link.only_cpu = control.client.facts.only_cpu;
    link.flags &= CDMF_LINK_TIMESTAMP;
    if (plan.checksum) link.flags |= CDMF_LINK_CHECKSUM;
    if (!can_run_together(seen.only_cpu, link.only_cpu)) link.flags |= CDMF_LINK_SAME_CPU;
    link.reason = std::max(control.client.goodbye.load(std::memory_order_relaxed),
                           control.server.goodbye.load(std::memory_order_relaxed));
    if (link.reason == CDMF_OK && !is_locked(file.fd.get(), kClientLock)) link.reason = CDMF_PEER_DIED;
    if (link.reason != CDMF_OK) link.flags |= CDMF_LINK_ENDED;
    snapshot.links.push_back(link);
    const auto add = [&](const char* which, std::uint64_t offset, bool to_server) {
      cdmf_ring_report ring{};
      ring.struct_size = sizeof ring;
      ring.link = link.peer;
      std::snprintf(ring.name, sizeof ring.name, "%s", which);
      if (to_server) ring.flags |= CDMF_RING_TO_SERVER;
      if ((to_server ? control.server : control.client).facts.may_sleep == 0) {
        ring.flags |= CDMF_RING_RECEIVER_NEVER_SLEEPS;
      }
      if (report_ring_of(file, offset, plan.ring_bytes(), ring)) snapshot.rings.push_back(ring);
    };
    add("TX", offsetof(SegmentControl, tx), true);
    if (plan.bidirectional) add("RX", offsetof(SegmentControl, rx), false);
  }
  seen.taken_ns = monotonic_now_ns();
  return CDMF_OK;
}

}  // namespace cdmf::ipc::shm
