#include "config/route_reader.h"

#include <algorithm>
#include <array>

#include "config/suggest.h"
#include "ipc/property.h"

namespace cdmf::ipc::config {
namespace {

using Kind = YamlNode::Kind;

constexpr std::array<std::string_view, 5> kKeys = {"from", "to", "match", "both_ways", "when_down"};
constexpr std::array<WhenDown, 3> kWhenDown = {WhenDown::BLOCK, WhenDown::DROP_NEWEST_COUNTED, WhenDown::FAIL};

class RouteReader {
 public:
  RouteReader(const std::vector<TransportEntry>& transports, Problems& problems)
      : transports_(transports), problems_(problems) {}

  std::vector<RouteEntry> read(const YamlNode& list) {
    std::vector<RouteEntry> routes;
    if (list.items.empty()) problems_.add(list.position, "routes", "names no route", kRoutesHint);
    for (const YamlNode& item : list.items) {
      key_ = "routes[" + std::to_string(&item - list.items.data()) + "]";
      const std::size_t before = problems_.size();
      RouteEntry route = read_route(item);
      if (problems_.size() != before || item.kind != Kind::map) continue;
      check_against_others(route, routes, item.position);
      routes.push_back(std::move(route));
    }
    return routes;
  }

 private:
  RouteEntry read_route(const YamlNode& item) {
    RouteEntry route;
    route.place = problems_.file() + ":" + to_string(item.position);
    if (item.kind == Kind::refused) return route;
    if (item.kind != Kind::map) {
      problems_.add(item.position, key_, "expected a map", kRoutesHint);
      return route;
    }
    for (const YamlEntry& entry : item.entries) {
      if (std::find(kKeys.begin(), kKeys.end(), entry.key) == kKeys.end()) {
        problems_.add(entry.key_position, key_ + "." + printable(entry.key), "unknown key",
                      suggestion(entry.key, kKeys));
      } else if (entry.value.kind != Kind::scalar) {
        if (entry.value.kind != Kind::refused) bad(entry, "expected one value");
      } else {
        read_value(entry, route);
      }
    }
    for (const char* needed : {"from", "to"}) {
      if (item.find(needed) == nullptr) problems_.add(item.position, key_ + "." + needed, "is missing", kRoutesHint);
    }
    if (!route.from.empty() && route.from == route.to) {
      problems_.add(item.find("to")->value.position, key_ + ".to",
                    in_quotes(route.to) + " is where the route comes from", "a route leads to another transport");
    }
    return route;
  }

  void read_value(const YamlEntry& entry, RouteEntry& route) {
    const std::string& text = entry.value.text;
    if (entry.key == "from" || entry.key == "to") {
      std::vector<std::string_view> names;
      for (const TransportEntry& transport : transports_) names.push_back(transport.name);
      if (std::find(names.begin(), names.end(), text) == names.end()) {
        return bad(entry, in_quotes(text) + " is no transport of this file", suggestion(text, names));
      }
      (entry.key == "from" ? route.from : route.to) = text;
    } else if (entry.key == "match") {
      if (text.empty() || text.size() > kSubjectBytesMax) {
        return bad(entry, "a pattern has 1 to " + std::to_string(kSubjectBytesMax) + " bytes",
                   "'*' matches every subject");
      }
      route.match = text;
    } else if (entry.key == "both_ways") {
      if (text != "true" && text != "false") return bad(entry, "expected true or false, got " + in_quotes(text));
      route.both_ways = text == "true";
    } else {
      std::vector<std::string_view> words;
      for (const WhenDown when : kWhenDown) {
        words.emplace_back(to_string(when));
        if (text == words.back()) {
          route.when_down = when;
          return;
        }
      }
      bad(entry, "expected one of block | drop_newest_counted | fail, got " + in_quotes(text), suggestion(text, words));
    }
  }

  void check_against_others(const RouteEntry& route, const std::vector<RouteEntry>& before, Position position) {
    const auto size_of = [&](const std::string& name) {
      return std::find_if(transports_.begin(), transports_.end(), [&](const auto& each) { return each.name == name; })
          ->config.max_message_size;
    };
    const auto fits = [&](const std::string& from, const std::string& to) {
      if (size_of(from) <= size_of(to)) return;
      problems_.add(position, key_,
                    "messages of " + in_quotes(from) + " have up to " + format_size(size_of(from)) + ", " +
                        in_quotes(to) + " takes " + format_size(size_of(to)),
                    "give both the same max_message_size");
    };
    fits(route.from, route.to);
    if (route.both_ways) fits(route.to, route.from);
    for (const RouteEntry& other : before) {
      if (other.match != route.match && other.match != "*") continue;
      const auto takes_from = [&](const std::string& source) {
        return other.from == source || (other.both_ways && other.to == source);
      };
      for (const std::string& source : {route.from, route.to}) {
        if ((source == route.to && !route.both_ways) || !takes_from(source)) continue;
        problems_.add(position, key_,
                      "never gets a message of " + in_quotes(source) + ": " + other.place + " takes all of " +
                          in_quotes(route.match),
                      "the first route that matches wins; put the narrow ones first");
        return;
      }
    }
  }

  void bad(const YamlEntry& entry, std::string reason, std::string hint = {}) {
    problems_.add(entry.value.position, key_ + "." + entry.key, std::move(reason), std::move(hint));
  }

  const std::vector<TransportEntry>& transports_;
  Problems& problems_;
  std::string key_;
};

}  // namespace

std::vector<RouteEntry> read_routes(const YamlNode& list, const std::vector<TransportEntry>& transports,
                                    Problems& problems) {
  return RouteReader(transports, problems).read(list);
}

}  // namespace cdmf::ipc::config

namespace cdmf::ipc {

const char* to_string(WhenDown when) noexcept {
  switch (when) {
    case WhenDown::BLOCK:
      return "block";
    case WhenDown::DROP_NEWEST_COUNTED:
      return "drop_newest_counted";
    case WhenDown::FAIL:
      return "fail";
  }
  return "?";
}

}  // namespace cdmf::ipc
