#include "cli/sizing.h"

#include <cmath>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>

#include "cli/plugin_config.h"
#include "cli/plugin_text.h"

namespace cdmf::ipc::cli {
namespace {

constexpr double kHighRate = 100'000;
constexpr double kMediumRate = 10'000;

}  // namespace

Advice advise(const Load& load) {
  Advice advice;
  if (load.messages_per_second < kMediumRate) {
    advice.capacity = 128;
    advice.reason = "fewer than 10K messages/s: a small buffer, 128 entries";
  } else if (load.messages_per_second <= kHighRate) {
    advice.capacity = 4096;
    advice.reason = "10K to 100K messages/s: balanced, 4096 entries";
  } else if (load.latency_ns < 20'000) {
    advice.capacity = 256;
    advice.reason = "more than 100K messages/s within 20 us: low latency, 256 entries";
  } else if (load.latency_ns < 100'000) {
    advice.capacity = 1024;
    advice.reason = "more than 100K messages/s within 100 us: normal, 1024 entries";
  } else {
    advice.capacity = 4096;
    advice.reason =
        "more than 100K messages/s and 100 us or more to spare: beyond the flowchart, balanced, 4096 entries";
  }
  advice.many = load.producers > 1 || load.consumers > 1;
  advice.reason += advice.many ? "; several producers or consumers: MPMC" : "; one producer, one consumer: SPSC";
  return advice;
}

std::uint64_t specified_size(std::uint64_t capacity, std::uint64_t message_size) noexcept {
  const long double bytes =
      64.0L + 2.0L * static_cast<long double>(capacity) * static_cast<long double>(message_size) + 192.0L;
  const long double sum = std::ceil(bytes * 12.0L / 10.0L);
  return sum >= 18446744073709551615.0L ? UINT64_MAX : static_cast<std::uint64_t>(sum);
}

std::optional<double> parse_rate(const std::string& text) {
  // strtod() alone would take "inf", "0x10" and " 5".
  if (text.empty() || text.find_first_not_of("0123456789.KkMG") != std::string::npos) return std::nullopt;
  char* end = nullptr;
  double rate = std::strtod(text.c_str(), &end);
  if (end == text.c_str()) return std::nullopt;
  const std::string unit = end;
  if (unit == "K" || unit == "k") {
    rate *= 1e3;
  } else if (unit == "M") {
    rate *= 1e6;
  } else if (unit == "G") {
    rate *= 1e9;
  } else if (!unit.empty()) {
    return std::nullopt;
  }
  if (!(rate > 0) || rate > 1e12) return std::nullopt;
  return rate;
}

std::string duration_text(std::uint64_t nanoseconds) {
  const char* const units[] = {"ns", "us", "ms", "s"};
  double scaled = static_cast<double>(nanoseconds);
  std::size_t unit = 0;
  while (scaled >= 1000 && unit + 1 < std::size(units)) {
    scaled /= 1000;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, "%.*g%s", scaled < 1000 ? 3 : 15, scaled, units[unit]);
  return text;
}

std::string bytes_text(std::uint64_t bytes) {
  const char* const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double scaled = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (scaled >= 1024 && unit + 1 < std::size(units)) {
    scaled /= 1024;
    ++unit;
  }
  std::string text = std::to_string(bytes) + " bytes";
  if (unit == 0) return text;
  char rounded[32];
  std::snprintf(rounded, sizeof rounded, " (%.1f %s)", scaled, units[unit]);
  return text + rounded;
}

std::string parts_text(const std::vector<cdmf_size_part>& parts, std::uint64_t clients) {
  const char* const owners[] = {"shared", "server", "client"};
  std::vector<std::vector<std::string>> rows{{"PART", "BYTES", "PER", "OF", ""}};
  std::uint64_t sums[2][3] = {};  // By how often and whose.
  for (const cdmf_size_part& part : parts) {
    const std::size_t per = part.per == CDMF_SIZE_PER_CLIENT ? 1 : 0;
    const std::size_t owner = part.owner < std::size(owners) ? part.owner : 0;
    sums[per][owner] += part.bytes;
    rows.push_back({text_of(part.name), std::to_string(part.bytes), per == 1 ? "client" : "endpoint", owners[owner],
                    text_of(part.detail)});
  }
  std::string text = table_text(rows);
  const auto bytes = [&](std::uint64_t count, std::size_t owner) { return sums[0][owner] + sums[1][owner] * count; };
  const auto line = [&](const std::string& of, std::uint64_t count) {
    text += of + std::string(of.size() < 16 ? 16 - of.size() : 1, ' ') + bytes_text(bytes(count, 0)) + " shared, " +
            bytes_text(bytes(count, 1)) + " in the server, " + bytes_text(sums[1][2]) + " in each client\n";
  };
  line("one client:", 1);
  if (clients != 1) line(std::to_string(clients) + " clients:", clients);
  return text;
}

std::string suggestion_note(const cdmf_size_suggestion& suggestion) {
  const std::string note = text_of(suggestion.note);
  return note.empty() ? "" : "# " + note + "\n";
}

std::string formula_text(std::uint64_t capacity, std::uint64_t message_size) {
  return "specification:  " + bytes_text(specified_size(capacity, message_size)) + ", by (64 + 2 x " +
         std::to_string(capacity) + " x " + std::to_string(message_size) +
         " + 192) x 1.2: every entry has room for the largest message\n";
}

std::string suggestion_yaml(const std::string& type, const cdmf_size_suggestion& suggestion) {
  std::string common;
  std::string own;
  for (std::uint32_t i = 0; i < suggestion.option_count && i < CDMF_SIZE_OPTIONS_MAX; ++i) {
    const std::string name = text_of(suggestion.options[i].name);
    const std::string text = text_of(suggestion.options[i].text);
    // What every transport knows stands above the type's own section.
    (name == "max_message_size" ? common : own) +=
        (name == "max_message_size" ? "    " : "      ") + name + ": " + text + "\n";
  }
  return "version: 1\n\ntransports:\n  main:\n    type: " + type + "\n    endpoint: /my_endpoint\n" + common +
         (own.empty() ? "" : "    " + type + ":\n" + own);
}

}  // namespace cdmf::ipc::cli
