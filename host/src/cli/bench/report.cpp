#include "cli/bench/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "cli/plugin_text.h"

namespace cdmf::ipc::cli {
namespace {

std::string number(double value, int decimals) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", decimals, std::isfinite(value) ? value : 0.0);
  return text;
}

// Three significant digits.
std::string short_number(double value) { return number(value, value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2); }

std::string json_text(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
      quoted += escape;
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

const char* pattern_name(Pattern pattern) {
  switch (pattern) {
    case Pattern::PINGPONG:
      return "pingpong";
    case Pattern::STREAM:
      return "stream";
    case Pattern::CALL:
      return "call";
  }
  return "?";
}

// Decimals that leave two significant digits: single bytes against a copy of megabytes are a hundred-thousandth of it.
int ratio_decimals(double ratio) {
  if (!std::isfinite(ratio) || ratio <= 0) return 2;
  return std::clamp(1 - static_cast<int>(std::floor(std::log10(ratio))), 2, 12);
}

std::string ratio_number(double ratio) { return number(ratio, ratio_decimals(ratio)); }

// Two digits more for programs.
std::string ratio_json(double ratio) { return number(ratio, ratio_decimals(ratio) + 2); }

std::string ratio_text(const Spread& ratio) {
  return ratio_number(ratio.median) + "  (half of the rounds: " + ratio_number(ratio.low) + " to " +
         ratio_number(ratio.high) + ")";
}

}  // namespace

std::string human_nanoseconds(double nanoseconds) {
  if (nanoseconds < 999.5) return number(nanoseconds, 0) + " ns";
  if (nanoseconds < 999.5e3) return short_number(nanoseconds / 1e3) + " µs";
  if (nanoseconds < 999.5e6) return short_number(nanoseconds / 1e6) + " ms";
  return short_number(nanoseconds / 1e9) + " s";
}

std::string human_rate(double bytes_per_second) {
  if (bytes_per_second < 999.5e3) return short_number(bytes_per_second / 1e3) + " kB/s";
  if (bytes_per_second < 999.5e6) return short_number(bytes_per_second / 1e6) + " MB/s";
  return short_number(bytes_per_second / 1e9) + " GB/s";
}

std::string human_count(double count) {
  if (count < 999.5) return number(count, 0);
  if (count < 999.5e3) return short_number(count / 1e3) + " k";
  return short_number(count / 1e6) + " M";
}

std::string report_json(const BenchmarkReport& report) {
  const auto& result = report.result;
  const auto& limit = result.limit;
  const bool ping_pong = report.options.pattern != Pattern::STREAM;
  std::string json = "{\"transport\":" + json_text(report.transport);
  json += ",\"pattern\":" + json_text(pattern_name(report.options.pattern));
  json += ",\"size_bytes\":" + std::to_string(report.options.size_bytes);
  json += ",\"rounds\":" + std::to_string(report.options.rounds);
  if (ping_pong) {
    json += ",\"rtt_ns\":{\"p50\":" + std::to_string(result.rtt.p50_ns) +
            ",\"p99\":" + std::to_string(result.rtt.p99_ns) + ",\"p999\":" + std::to_string(result.rtt.p999_ns) +
            ",\"max\":" + std::to_string(result.rtt.max_ns) + ",\"batch_median\":" + number(result.rtt_ns, 1) +
            ",\"samples\":" + std::to_string(result.rtt.count) + "}";
  } else {
    json += ",\"rtt_ns\":null";
  }
  if (report.options.pattern == Pattern::CALL) {
    json += ",\"pingpong_ns\":" + number(result.pingpong_ns, 1) +
            ",\"ratio_to_pingpong\":" + ratio_json(result.ratio_to_pingpong.median) +
            ",\"ratio_to_pingpong_quartiles\":[" + ratio_json(result.ratio_to_pingpong.low) + "," +
            ratio_json(result.ratio_to_pingpong.high) + "],\"pipelined_calls_per_s\":" + number(result.calls_per_s, 0) +
            ",\"pipelined_messages_per_s\":" + number(result.exchanges_per_s, 0) +
            ",\"ratio_to_pipelined_messages\":" + ratio_json(result.ratio_to_exchange.median);
  }
  json += ",\"msgs_per_s\":" + number(result.msgs_per_s, 0) + ",\"bytes_per_s\":" + number(result.bytes_per_s, 0);
  json += ",\"limit\":{\"cacheline_rtt_ns\":" + number(limit.cache_line_rtt_ns, 1) +
          ",\"unix_rtt_ns\":" + number(limit.unix_rtt_ns, 0) + ",\"futex_rtt_ns\":" + number(limit.futex_rtt_ns, 0) +
          ",\"unix_write_msgs_per_s\":" + number(limit.unix_write_msgs_per_s, 0) +
          ",\"copy_bytes_per_s\":" + number(limit.copy_bytes_per_s, 0) + "}";
  json += ",\"ratio_to_limit\":" + ratio_json(result.ratio_to_limit.median);
  json += ",\"ratio_to_limit_quartiles\":[" + ratio_json(result.ratio_to_limit.low) + "," +
          ratio_json(result.ratio_to_limit.high) + "]";
  json += ",\"ratio_to_unix\":" + ratio_json(result.ratio_to_unix.median);
  json += ",\"detail\":" + json_text(report.detail) + ",\"cpu\":" + json_text(report.machine.cpu) +
          ",\"kernel\":" + json_text(report.machine.kernel) + ",\"compiler\":" + json_text(report.machine.compiler) +
          ",\"pinning\":" + json_text(report.pinning) + "}";
  return json;
}

std::string report_text(const BenchmarkReport& report) {
  const auto& result = report.result;
  const auto& limit = result.limit;
  std::string text = report.transport + "/" + pattern_name(report.options.pattern) + "/" +
                     std::to_string(report.options.size_bytes) + "B, " + std::to_string(report.options.rounds) +
                     " rounds of " + human_nanoseconds(static_cast<double>(report.options.round.count())) + "\n";
  text +=
      report.machine.cpu + "; " + report.pinning + "\n" + report.machine.kernel + "; " + report.machine.compiler + "\n";
  if (!report.detail.empty()) text += report.detail + "\n";
  text += "\n";

  std::vector<std::vector<std::string>> rows;
  if (report.options.pattern != Pattern::STREAM) {
    rows.push_back({"round trip p50", human_nanoseconds(static_cast<double>(result.rtt.p50_ns))});
    rows.push_back({"           p99", human_nanoseconds(static_cast<double>(result.rtt.p99_ns))});
    rows.push_back({"           p99.9", human_nanoseconds(static_cast<double>(result.rtt.p999_ns))});
    rows.push_back({"           max", human_nanoseconds(static_cast<double>(result.rtt.max_ns))});
    rows.push_back({"in batches", human_nanoseconds(result.rtt_ns) + " each"});
    if (report.options.pattern == Pattern::CALL) {
      rows.push_back({"the transport's own round trip", human_nanoseconds(result.pingpong_ns) + " each"});
      rows.push_back({"ratio to that", ratio_text(result.ratio_to_pingpong)});
      rows.push_back({"asynchronous calls", human_count(result.calls_per_s) + "/s"});
      rows.push_back({"messages there and back alike", human_count(result.exchanges_per_s) + "/s"});
      rows.push_back({"ratio to that", ratio_text(result.ratio_to_exchange)});
    }
    rows.push_back({"ratio to a bare cache line", ratio_text(result.ratio_to_limit)});
    rows.push_back({"ratio to a bare Unix socket", ratio_text(result.ratio_to_unix)});
  } else {
    rows.push_back({"messages", human_count(result.msgs_per_s) + "/s"});
    rows.push_back({"bytes", human_rate(result.bytes_per_s)});
    rows.push_back({"ratio to a bare copy from core to core", ratio_text(result.ratio_to_limit)});
    rows.push_back({"ratio to bare Unix socket writes", ratio_text(result.ratio_to_unix)});
  }
  rows.push_back({"", ""});
  rows.push_back({"this machine, same rounds:", ""});
  rows.push_back({"  cache line round trip", human_nanoseconds(limit.cache_line_rtt_ns)});
  rows.push_back({"  Unix socket round trip, same size", human_nanoseconds(limit.unix_rtt_ns)});
  rows.push_back({"  futex round trip, both asleep", human_nanoseconds(limit.futex_rtt_ns)});
  rows.push_back({"  Unix socket, a write per message", human_count(limit.unix_write_msgs_per_s) + " messages/s"});
  rows.push_back({"  copy from core to core", human_rate(limit.copy_bytes_per_s)});
  return text + table_text(rows);
}

}  // namespace cdmf::ipc::cli
