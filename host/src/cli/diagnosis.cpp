#include "cli/diagnosis.h"

#include <algorithm>
#include <cstdio>

#include "cli/sizing.h"
#include "ipc/property.h"
#include "ipc/result.h"

namespace cdmf::ipc::cli {
namespace {

std::string percent(double fraction) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g%%", fraction * 100);
  return text;
}

std::string per_second(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g/s", value);
  return text;
}

/// What grew, when both numbers are kept and make sense.
double grown(std::uint64_t now, std::uint64_t before) {
  return now == CDMF_UNKNOWN || before == CDMF_UNKNOWN || now < before ? 0 : static_cast<double>(now - before);
}

/// One ring over the time of looking.
struct Course {
  const cdmf_ring_report* last = nullptr;
  const cdmf_link_report* link = nullptr;
  std::string name;
  double seconds = 0;
  double pushes = 0;
  double pops = 0;
  double full = 0;
  double bytes = 0;
  double wakes = 0;
  double space_waits = 0;
  double contentions = 0;
  double mean_fill = 0;
  double lowest_fill = 1;
};

std::optional<Course> course_of(const cdmf_ring_report& last, const std::vector<Observation>& seen) {
  Course course;
  const cdmf_ring_report* first = nullptr;
  const Observation* first_look = nullptr;
  std::size_t looks = 0;
  for (const Observation& look : seen) {
    const cdmf_ring_report* const ring = look.same_ring(last);
    if (ring == nullptr || ring->capacity_bytes == 0) continue;
    if (first == nullptr) {
      first = ring;
      first_look = &look;
    }
    const double fill = ring->used_bytes == CDMF_UNKNOWN
                            ? 0
                            : static_cast<double>(ring->used_bytes) / static_cast<double>(ring->capacity_bytes);
    course.mean_fill += fill;
    course.lowest_fill = std::min(course.lowest_fill, fill);
    ++looks;
  }
  if (looks < 2) return std::nullopt;  // It came with the last look.
  const Observation& now = seen.back();
  course.last = &last;
  course.link = now.link_of(last);
  course.name = (course.link == nullptr
                     ? "ring "
                     : "link " + std::to_string(last.link) + " (pid " + std::to_string(course.link->pid) + "), ring ") +
                text_of(last.name) + " to the " + ((last.flags & CDMF_RING_TO_SERVER) != 0 ? "server" : "client");
  course.seconds = static_cast<double>(now.endpoint.taken_ns - first_look->endpoint.taken_ns) / 1e9;
  course.pushes = grown(last.pushes, first->pushes);
  course.pops = grown(last.pops, first->pops);
  course.full = grown(last.failed_pushes, first->failed_pushes);
  course.bytes = grown(last.bytes, first->bytes);
  course.wakes = grown(last.wakes, first->wakes);
  course.space_waits = grown(last.space_waits, first->space_waits);
  course.contentions = grown(last.contentions, first->contentions);
  course.mean_fill /= static_cast<double>(looks);
  return course;
}

std::string larger_ring(const Known& known) {
  if (!known.ring_buffer_capacity || *known.ring_buffer_capacity <= 0) return "a larger buffer";
  return "ring_buffer_capacity: " + std::to_string(*known.ring_buffer_capacity * 2) + " (now " +
         std::to_string(*known.ring_buffer_capacity) + ") or more, a power of two";
}

class Doctor {
 public:
  Doctor(const Known& known, Diagnosis& diagnosis) : known_(known), diagnosis_(diagnosis) {}

  void look_at(const Course& it) {
    latency(it);
    fullness(it);
    throughput(it);
    contention(it);
    if ((it.last->flags & CDMF_RING_IMPLAUSIBLE) != 0) {
      find(Symptom::ERRORS, it.name + ": its words contradict each other",
           "its peer wrote what it should not: look for a program that overwrites memory, and set trust: hostile");
    }
  }

  void look_at(const Observation& first, const Observation& last) {
    const double refused = grown(last.endpoint.refused, first.endpoint.refused);
    const double errors = grown(last.endpoint.error_count, first.endpoint.error_count);
    if (refused == 0 && errors == 0) return;
    find(Symptom::ERRORS,
         std::to_string(static_cast<std::uint64_t>(errors)) + " errors, of these " +
             std::to_string(static_cast<std::uint64_t>(refused)) +
             " refused clients; the last: " + to_string(static_cast<TransportError>(last.endpoint.last_error)) + ": " +
             text_of(last.endpoint.last_error_text),
         "what the text says");
  }

 private:
  void find(Symptom symptom, std::string what, std::string change) {
    diagnosis_.findings.push_back({symptom, std::move(what), std::move(change)});
  }

  /// §9.1: check cache alignment. And what else keeps a message from being read at once.
  void latency(const Course& it) {
    if ((it.last->flags & CDMF_RING_NOT_ALIGNED) != 0) {
      find(Symptom::HIGH_LATENCY, it.name + ": words of its two ends share a cache line",
           "place shared structures at multiples of 64 bytes; this is a fault of the transport: report it");
    }
    if (it.link != nullptr && (it.link->flags & CDMF_LINK_SAME_CPU) != 0 &&
        (it.last->flags & CDMF_RING_TO_SERVER) != 0) {
      find(Symptom::HIGH_LATENCY,
           it.name + ": both ends may only run on CPU " + std::to_string(it.link->only_cpu) +
               ", so that each waits for the other's time slice",
           "bind them to two CPUs, or to none (taskset, cpuset); where there is one CPU, wait: futex");
    }
    const double rate = it.seconds > 0 ? it.pushes / it.seconds : 0;
    if (it.pushes > 0 && rate >= kWakeRate && it.wakes / it.pushes >= kWakesPerMessage) {
      std::string change = "wait: adaptive, or wait: spin where a core can be given to it";
      if (known_.spin_budget_ns && *known_.spin_budget_ns > 0) {
        change += "; or let it spin longer, spin_budget: " +
                  format_duration(static_cast<std::uint64_t>(*known_.spin_budget_ns) * 4) + " (now " +
                  format_duration(static_cast<std::uint64_t>(*known_.spin_budget_ns)) + ")";
      }
      find(Symptom::HIGH_LATENCY,
           it.name + ": " + percent(it.wakes / it.pushes) + " of " + per_second(rate) +
               " messages had to wake their receiver, a system call and some 50 us each",
           change + "; or flush several messages together");
    }
    if (it.mean_fill >= kWaitFill && it.full == 0 && it.bytes > 0 && it.seconds > 0) {
      const double fill_bytes = it.mean_fill * static_cast<double>(it.last->capacity_bytes);
      const double wait_ns = fill_bytes / (it.bytes / it.seconds) * 1e9;
      if (wait_ns >= static_cast<double>(kWaitNs)) {
        find(Symptom::HIGH_LATENCY,
             it.name + ": messages wait " + duration_text(static_cast<std::uint64_t>(wait_ns)) +
                 " for their receiver, as the ring is " + percent(it.mean_fill) + " full on average",
             "a faster consumer, or several; a smaller ring would refuse them instead of letting them wait");
      }
    }
  }

  /// §9.1: check consumer speed.
  void fullness(const Course& it) {
    const bool waits = (it.last->flags & CDMF_RING_SENDER_WAITS) != 0 && it.lowest_fill >= kSlowFill;
    const bool stuck = it.pushes == 0 && it.pops == 0 && it.lowest_fill > 0 && (waits || it.full > 0);
    if (stuck) {
      find(Symptom::BUFFER_FULL,
           it.name + ": its receiver took nothing, while the ring was " + percent(it.mean_fill) + " full",
           "see what the receiver does: it is in a long handler, holds a message, or is stopped");
      return;
    }
    if ((it.full == 0 && it.space_waits == 0 && !waits) || it.mean_fill < kSlowFill) return;
    find(Symptom::BUFFER_FULL,
         it.name + ": full " + figures(it) + "; " + percent(it.mean_fill) + " full on average, the consumer takes " +
             per_second(it.seconds > 0 ? it.pops / it.seconds : 0),
         "make the handler faster, or have more consumers (ring_type: mpmc); a larger ring only fills later");
  }

  /// §9.1: check buffer size.
  void throughput(const Course& it) {
    if (it.full > 0 && it.mean_fill < kSlowFill) {
      find(Symptom::LOW_THROUGHPUT,
           it.name + ": full " + figures(it) + ", though only " + percent(it.mean_fill) +
               " full on average: bursts do not fit",
           larger_ring(known_));
    }
    const double mean_bytes = it.pushes > 0 ? it.bytes / it.pushes : 0;
    const double held = mean_bytes > 0 ? static_cast<double>(it.last->capacity_bytes) / mean_bytes : kMessagesInRing;
    if (held < kMessagesInRing) {
      char text[32];
      std::snprintf(text, sizeof text, "%.1f", held);
      find(Symptom::LOW_THROUGHPUT,
           it.name + ": it holds " + text + " messages of " + bytes_text(static_cast<std::uint64_t>(mean_bytes)) +
               ", so that sender and receiver take turns",
           larger_ring(known_));
    }
  }

  /// §9.1: check producer count.
  void contention(const Course& it) {
    if (it.pushes == 0) return;
    diagnosis_.contentions = std::max(diagnosis_.contentions, it.contentions / it.pushes);
    if (it.contentions / it.pushes < kContentions) return;
    find(Symptom::CAS_CONTENTION,
         it.name + ": " + percent(it.contentions / it.pushes) + " attempts made again per message, by " +
             std::to_string(it.last->producers) + " producers",
         "fewer producers or consumers at work at once; several items in one message; or a link for each producer "
         "(ring_type: spsc)");
  }

  static std::string figures(const Course& it) {
    const double drop = it.pushes > 0 ? it.full / it.pushes : 0;
    return std::to_string(static_cast<std::uint64_t>(it.full)) + " times (drop rate " + percent(drop) + "), " +
           std::to_string(static_cast<std::uint64_t>(it.space_waits)) + " sleeps of its sender";
  }

  const Known& known_;
  Diagnosis& diagnosis_;
};

}  // namespace

Diagnosis diagnose(const std::vector<Observation>& seen, const Known& known) {
  Diagnosis diagnosis;
  diagnosis.looks = seen.size();
  if (seen.size() < 2) return diagnosis;
  const Observation& first = seen.front();
  const Observation& last = seen.back();
  diagnosis.seconds = static_cast<double>(last.endpoint.taken_ns - first.endpoint.taken_ns) / 1e9;
  Doctor doctor(known, diagnosis);
  for (const cdmf_ring_report& ring : last.rings) {
    const auto course = course_of(ring, seen);
    if (!course) continue;
    diagnosis.messages += static_cast<std::uint64_t>(course->pushes);
    doctor.look_at(*course);
  }
  doctor.look_at(first, last);
  return diagnosis;
}

std::string diagnosis_text(const std::string& type, const std::string& endpoint, const Diagnosis& diagnosis) {
  char seconds[32];
  std::snprintf(seconds, sizeof seconds, "%.1f", diagnosis.seconds);
  std::string text = type + " " + endpoint + ": " + std::to_string(diagnosis.looks) + " looks in " + seconds + " s, " +
                     std::to_string(diagnosis.messages) + " messages\n";
  if (diagnosis.messages == 0) text += "Nothing was sent meanwhile: latency and throughput cannot be judged.\n";
  const struct {
    Symptom symptom;
    const char* name;
    const char* checked;
  } branches[] = {
      {Symptom::HIGH_LATENCY, "high latency", "alignment, CPUs, wakes, time in the rings"},
      {Symptom::LOW_THROUGHPUT, "low throughput", "buffer size beside bursts and messages"},
      {Symptom::BUFFER_FULL, "buffer full", "speed of consumers"},
      {Symptom::CAS_CONTENTION, "CAS contention", "producers and repeated attempts"},
      {Symptom::ERRORS, "errors", "refused clients, damaged messages, words that make no sense"},
  };
  for (const auto& branch : branches) {
    bool any = false;
    for (const Finding& finding : diagnosis.findings) {
      if (finding.symptom != branch.symptom) continue;
      text += std::string(any ? "" : branch.name + std::string(": FOUND\n")) + "  " + finding.what + "\n  -> " +
              finding.change + "\n";
      any = true;
    }
    if (any) continue;
    text += std::string(branch.name) + ": nothing found (" + branch.checked;
    if (branch.symptom == Symptom::CAS_CONTENTION && diagnosis.contentions > 0) {
      text += ": " + percent(diagnosis.contentions) + " per message";
    }
    text += ")\n";
  }
  return text;
}

}  // namespace cdmf::ipc::cli
