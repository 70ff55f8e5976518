#include "cli/observation_text.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "cli/plugin_text.h"
#include "cli/sizing.h"
#include "ipc/result.h"
#include "json_text.h"

namespace cdmf::ipc::cli {
namespace {

const char* const kWaitWords[] = {"unknown", "spin", "yield", "adaptive", "sleep"};
const char* wait_word(std::uint32_t wait) { return kWaitWords[wait < std::size(kWaitWords) ? wait : 0]; }

std::string number(std::uint64_t value) { return value == CDMF_UNKNOWN ? "-" : std::to_string(value); }

std::string percent(double fraction) {
  char text[32];
  std::snprintf(text, sizeof text, fraction < 0.1 ? "%.2g%%" : "%.0f%%", fraction * 100);
  return text;
}

const char* receiver_word(const cdmf_ring_report& ring) {
  if ((ring.flags & CDMF_RING_RECEIVER_SLEEPS) != 0) return "asleep";
  return (ring.flags & CDMF_RING_PARKED) != 0 ? "parked" : "hot";
}

std::string status_word(std::int32_t status) { return to_string(static_cast<TransportError>(status)); }

/// "3.5s ago"; "in the future" when clocks differ.
std::string ago(std::uint64_t then_us, std::uint64_t now_us) {
  if (then_us == 0) return "at an unknown time";
  if (then_us > now_us) return "just now";
  return duration_text((now_us - then_us) * 1000) + " ago";
}

/// Per second between two looks; empty when it cannot be said.
std::string rate(std::uint64_t now, std::uint64_t before, std::uint64_t elapsed_ns) {
  if (now == CDMF_UNKNOWN || before == CDMF_UNKNOWN || now < before || elapsed_ns == 0) return "-";
  const double per_second = static_cast<double>(now - before) * 1e9 / static_cast<double>(elapsed_ns);
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", per_second < 10 ? 1 : 0, per_second);
  return text;
}

std::string notes_of(const cdmf_ring_report& ring, const cdmf_link_report* link) {
  std::string notes;
  const auto add = [&](const char* note) { notes += (notes.empty() ? "" : ", ") + std::string(note); };
  if ((ring.flags & CDMF_RING_SENDER_WAITS) != 0) add("sender waits");
  if ((ring.flags & CDMF_RING_IMPLAUSIBLE) != 0) add("words make no sense");
  if ((ring.flags & CDMF_RING_NOT_ALIGNED) != 0) add("not aligned");
  if (link != nullptr && (link->flags & CDMF_LINK_UNTRUSTED) != 0) add("untrusted");
  if (link != nullptr && (link->flags & CDMF_LINK_SAME_CPU) != 0) add("one CPU for both ends");
  if (link != nullptr && (link->flags & CDMF_LINK_ENDED) != 0) add("ended");
  return notes;
}

}  // namespace

double utilization(const cdmf_ring_report& ring) noexcept {
  if (ring.capacity_bytes == 0 || ring.high_water_bytes == CDMF_UNKNOWN) return 0;
  return static_cast<double>(ring.high_water_bytes) / static_cast<double>(ring.capacity_bytes);
}

double drop_rate(const cdmf_ring_report& ring) noexcept {
  if (ring.pushes == 0 || ring.pushes == CDMF_UNKNOWN || ring.failed_pushes == CDMF_UNKNOWN) return 0;
  return static_cast<double>(ring.failed_pushes) / static_cast<double>(ring.pushes);
}

std::string observation_text(const std::string& type, const std::string& endpoint, const Observation& seen,
                             const Observation* before, std::uint64_t now_us) {
  const cdmf_endpoint_report& end = seen.endpoint;
  std::string text = type + " " + endpoint + ": server " + std::to_string(end.pid) + " (user " +
                     std::to_string(end.uid) + "), started " + ago(end.started_us, now_us) + ", at " +
                     text_of(end.address) + "\n";
  if (const std::string detail = text_of(end.detail); !detail.empty()) text += detail + "\n";
  text += "clients: " + std::to_string(seen.links.size()) + " now, " + number(end.accepted) + " accepted, " +
          number(end.refused) + " refused, " + number(end.ended) + " ended\n";
  if (end.error_count == 0) {
    text += "errors: none\n";
  } else {
    text += "errors: " + number(end.error_count) + ", the last " + ago(end.last_error_us, now_us) + ": " +
            status_word(end.last_error) + ": " + text_of(end.last_error_text) + "\n";
  }
  if (seen.rings.empty()) return text;
  std::vector<std::vector<std::string>> rows{{"LINK", "CLIENT", "RING", "TO", "CAPACITY", "USED", "HIGH WATER",
                                              "UTILISATION", "PUSHED", "POPPED", "FULL", "DROP RATE", "WAKES",
                                              "RECEIVER"}};
  if (before != nullptr) rows[0].emplace_back("PUSHED/S");
  rows[0].emplace_back("");
  for (const cdmf_ring_report& ring : seen.rings) {
    const cdmf_link_report* const link = seen.link_of(ring);
    std::vector<std::string> row{ring.link == CDMF_NO_PEER ? "-" : std::to_string(ring.link),
                                 link == nullptr ? "-" : std::to_string(link->pid),
                                 text_of(ring.name),
                                 (ring.flags & CDMF_RING_TO_SERVER) != 0 ? "server" : "client",
                                 number(ring.capacity_bytes),
                                 number(ring.used_bytes),
                                 number(ring.high_water_bytes),
                                 percent(utilization(ring)),
                                 number(ring.pushes),
                                 number(ring.pops),
                                 number(ring.failed_pushes),
                                 percent(drop_rate(ring)),
                                 number(ring.wakes),
                                 receiver_word(ring)};
    if (before != nullptr) {
      const cdmf_ring_report* const then = before->same_ring(ring);
      row.push_back(then == nullptr ? "-" : rate(ring.pushes, then->pushes, end.taken_ns - before->endpoint.taken_ns));
    }
    row.push_back(notes_of(ring, link));
    rows.push_back(std::move(row));
  }
  return text + table_text(rows);
}

namespace {

class JsonObject {
 public:
  JsonObject& add(const char* name, std::uint64_t value) {
    return raw(name, value == CDMF_UNKNOWN ? "null" : std::to_string(value));
  }
  JsonObject& add(const char* name, std::int32_t value) { return raw(name, std::to_string(value)); }
  JsonObject& add(const char* name, std::uint32_t value) { return raw(name, std::to_string(value)); }
  JsonObject& add(const char* name, double value) {
    char text[40];
    std::snprintf(text, sizeof text, "%.6g", value);
    return raw(name, text);
  }
  JsonObject& add(const char* name, bool value) { return raw(name, value ? "true" : "false"); }
  JsonObject& add(const char* name, const std::string& value) { return raw(name, json_quoted(value)); }
  JsonObject& add(const char* name, const char* value) { return raw(name, json_quoted(value)); }
  JsonObject& raw(const char* name, const std::string& value) {
    text_ += (text_.size() == 1 ? "\"" : ",\"") + std::string(name) + "\":" + value;
    return *this;
  }
  [[nodiscard]] std::string text() const { return text_ + "}"; }

 private:
  std::string text_ = "{";
};

std::string ring_json(const cdmf_ring_report& ring) {
  JsonObject object;
  object.add("name", text_of(ring.name))
      .add("to", (ring.flags & CDMF_RING_TO_SERVER) != 0 ? "server" : "client")
      .add("capacity_bytes", ring.capacity_bytes)
      .add("used_bytes", ring.used_bytes)
      .add("high_water_bytes", ring.high_water_bytes)
      .add("utilization", utilization(ring))
      .add("total_pushes", ring.pushes)
      .add("total_pops", ring.pops)
      .add("failed_pushes", ring.failed_pushes)
      .add("drop_rate", drop_rate(ring))
      .add("bytes", ring.bytes)
      .add("wakes", ring.wakes)
      .add("space_waits", ring.space_waits)
      .add("contentions", ring.contentions)
      .add("producers", ring.producers)
      .add("consumers", ring.consumers)
      .add("receiver", receiver_word(ring))
      .add("receiver_may_sleep", (ring.flags & CDMF_RING_RECEIVER_NEVER_SLEEPS) == 0)
      .add("sender_waits", (ring.flags & CDMF_RING_SENDER_WAITS) != 0)
      .add("aligned", (ring.flags & CDMF_RING_NOT_ALIGNED) == 0)
      .add("plausible", (ring.flags & CDMF_RING_IMPLAUSIBLE) == 0);
  return object.text();
}

std::string rings_json(const Observation& seen, cdmf_peer link) {
  std::string text = "[";
  for (const cdmf_ring_report& ring : seen.rings) {
    if (ring.link == link) text += (text.size() == 1 ? "" : ",") + ring_json(ring);
  }
  return text + "]";
}

}  // namespace

std::string observation_json(const std::string& type, const std::string& endpoint, const Observation& seen) {
  const cdmf_endpoint_report& end = seen.endpoint;
  std::string links = "[";
  for (const cdmf_link_report& link : seen.links) {
    JsonObject object;
    object.add("peer", link.peer)
        .add("pid", link.pid)
        .add("uid", link.uid)
        .add("connected_us", link.connected_us)
        .add("ended", (link.flags & CDMF_LINK_ENDED) != 0)
        .add("trusted", (link.flags & CDMF_LINK_UNTRUSTED) == 0)
        .add("one_cpu", (link.flags & CDMF_LINK_SAME_CPU) != 0)
        .add("checksum", (link.flags & CDMF_LINK_CHECKSUM) != 0)
        .add("timestamp", (link.flags & CDMF_LINK_TIMESTAMP) != 0)
        .add("max_message_size", link.message_size_max)
        .add("discarded", link.discarded)
        .raw("rings", rings_json(seen, link.peer));
    links += (links.size() == 1 ? "" : ",") + object.text();
  }
  JsonObject error;
  error.add("count", end.error_count)
      .add("last", status_word(end.last_error))
      .add("last_text", text_of(end.last_error_text))
      .add("last_us", end.last_error_us);
  JsonObject object;
  object.add("type", type)
      .add("endpoint", endpoint)
      .add("address", text_of(end.address))
      .add("detail", text_of(end.detail))
      .add("pid", end.pid)
      .add("uid", end.uid)
      .add("wait", wait_word(end.wait))
      .add("started_us", end.started_us)
      .add("taken_ns", end.taken_ns)
      .add("accepted", end.accepted)
      .add("refused", end.refused)
      .add("ended", end.ended)
      .raw("errors", error.text())
      .raw("links", links + "]")
      .raw("rings", rings_json(seen, CDMF_NO_PEER));
  return object.text();
}

}  // namespace cdmf::ipc::cli
