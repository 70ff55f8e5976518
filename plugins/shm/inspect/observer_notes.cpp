#include "inspect/observer_notes.h"

#include <algorithm>
#include <cstring>

#include "wait/full_fence.h"

namespace cdmf::ipc::shm {

void write_notes(std::byte* memory, const Snapshot& seen, cdmf_peer link) noexcept {
  auto& notes = *reinterpret_cast<ObserverNotes*>(memory + kNotesOffset);
  // Only this thread writes. A reader takes what it copied between two equal, even numbers; it copies by system calls.
  const std::uint32_t before = notes.sequence.load(std::memory_order_relaxed) & ~1u;
  notes.sequence.store(before + 1, std::memory_order_relaxed);
  full_fence();  // Between the odd number and what follows.
  notes.endpoint_bytes = sizeof notes.endpoint;
  notes.link_bytes = sizeof notes.link;
  notes.endpoint = seen.endpoint;
  notes.endpoint.links = nullptr;  // Addresses of this process are nobody's business.
  notes.endpoint.rings = nullptr;
  const auto found =
      std::find_if(seen.links.begin(), seen.links.end(), [&](const auto& each) { return each.peer == link; });
  notes.link = found != seen.links.end() ? *found : cdmf_link_report{};
  notes.sequence.store(before + 2, std::memory_order_release);
}

}  // namespace cdmf::ipc::shm
