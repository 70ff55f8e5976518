#pragma once
// bench/typed_rings.h: the typed rings between two processes, beside the rings of textbooks and Boost's, as subjects of
// the report. bench_ring_buffer has more of them, in one process.
#include <string>
#include <vector>

#include "peers/subject.h"

namespace cdmf::bench {

struct RingSubject {
  std::string name, label, library;
  bool ours = false;
  std::function<Outcome(const Setting&)> trip;    ///< an item there and back
  std::function<Outcome(const Setting&)> stream;  ///< items per second
};

/// item_bytes  8 or 64
[[nodiscard]] std::vector<RingSubject> ring_subjects(std::size_t item_bytes);

/// §7.3 of the specification: Lamport's ring whose positions and first item share a line, and the same with a line for
/// each. Items of 8 bytes.
[[nodiscard]] RingSubject packed_ring();
[[nodiscard]] RingSubject padded_ring();

}  // namespace cdmf::bench
