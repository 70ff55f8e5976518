#include "rpc/introspection.h"

#include "json_text.h"

namespace cdmf::ipc::rpc {
namespace {

void add_count(std::string& out, const char* name, std::uint64_t count) {
  out += std::string(",\"") + name + "\":" + std::to_string(count);
}

}  // namespace

std::string introspection_json(const std::map<std::string, Method, std::less<>>& methods, const StubStats& stats,
                               bool stopping) {
  std::string out = std::string("{\"health\":\"") + (stopping ? "stopping" : "serving") + "\"";
  add_count(out, "requests", stats.requests);
  add_count(out, "replies", stats.replies);
  add_count(out, "application_errors", stats.application_errors);
  add_count(out, "refused", stats.refused);
  add_count(out, "overloaded", stats.overloaded);
  add_count(out, "too_late", stats.too_late);
  add_count(out, "one_way", stats.one_way);
  add_count(out, "answers_lost", stats.answers_lost);
  add_count(out, "open", stats.open);
  out += ",\"methods\":[";
  const char* comma = "";
  for (const auto& [name, method] : methods) {
    out += std::string(comma) + "{\"name\":" + json_quoted(name) + ",\"runs_on\":\"" +
           (method.run_on == RunOn::POOL ? "pool" : "receiver") + "\"";
    add_count(out, "calls", method.calls.get());
    add_count(out, "errors", method.errors.get());
    out += "}";
    comma = ",";
  }
  return out + "]}";
}

}  // namespace cdmf::ipc::rpc
