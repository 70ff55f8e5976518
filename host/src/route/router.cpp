#include "ipc/router.h"

#include <algorithm>

#include "json_text.h"
#include "route/port.h"

namespace cdmf::ipc {

class Router::State {
 public:
  explicit State(Host& host) : host_(host) {
    shared_.log = [&host](LogLevel level, const std::string& line) { host.log(level, line); };
    shared_.stats_json = [this] { return json(); };
  }

  TransportResult<> make() {
    const auto& routes = host_.config().routes;
    if (routes.empty()) return {TransportError::INVALID_ARGUMENT, "the file has no routes"};
    const auto role_of = [&](const std::string& name) {
      return std::any_of(routes.begin(), routes.end(), [&](const RouteEntry& each) { return each.from == name; })
                 ? Role::SERVER
                 : Role::CLIENT;
    };
    for (const TransportEntry& entry : host_.config().transports) {  // In their order in the file.
      const bool used = std::any_of(routes.begin(), routes.end(), [&](const RouteEntry& each) {
        return each.from == entry.name || each.to == entry.name;
      });
      if (!used) continue;
      auto made = host_.create(entry.name, role_of(entry.name),
                               [](TransportConfig& config) { config.receive = Receive::POLL; });
      if (!made) return {made.error, std::move(made.error_message)};
      ports_.push_back(std::make_unique<route::Port>(entry.name, std::move(made.value), shared_));
    }
    counters_ = std::vector<route::Counters>(routes.size());
    for (std::size_t i = 0; i < routes.size(); ++i) {
      route::Port& from = *find(routes[i].from);
      route::Port& to = *find(routes[i].to);
      from.add({&routes[i], &counters_[i], &to, false});
      if (routes[i].both_ways) to.add({&routes[i], &counters_[i], &from, true});
    }
    return {};
  }

  TransportResult<> start() {
    for (const auto& port : ports_) {
      auto started = port->start();
      if (!started) return {started.error, port->name() + ": " + started.error_message};
    }
    return {};
  }

  void stop() {
    const std::lock_guard lock(stop_mutex_);
    shared_.stopping = true;
    for (const auto& port : ports_) port->wake();
    for (const auto& port : ports_) port->join();
  }

  route::Port* find(std::string_view name) const noexcept {
    const auto found =
        std::find_if(ports_.begin(), ports_.end(), [&](const auto& port) { return port->name() == name; });
    return found == ports_.end() ? nullptr : found->get();
  }

  RouterStats stats() const {
    RouterStats all;
    for (std::size_t i = 0; i < counters_.size(); ++i) {
      const RouteEntry& entry = host_.config().routes[i];
      const route::Counters& counters = counters_[i];
      all.routes.push_back({entry.from, entry.to, entry.match, counters.forwarded, counters.forwarded_back,
                            counters.bytes, counters.answered, counters.dropped, counters.refused, counters.unanswered,
                            counters.looped, counters.waiting != 0});
    }
    for (const auto& port : ports_) {
      all.transports.push_back({port->name(), port->peers()->size(), port->hosts(), port->unmatched, port->late_answers,
                                port->answers_lost, port->lost});
    }
    return all;
  }

  std::string json() const {
    const RouterStats all = stats();
    std::string out = "{\"routes\":[";
    const auto count = [&](const char* name, std::uint64_t value) {
      out += std::string(",\"") + name + "\":" + std::to_string(value);
    };
    const char* comma = "";
    for (const RouteStats& each : all.routes) {
      out += std::string(comma) + "{\"from\":" + json_quoted(each.from) + ",\"to\":" + json_quoted(each.to) +
             ",\"match\":" + json_quoted(each.match);
      count("forwarded", each.forwarded);
      count("forwarded_back", each.forwarded_back);
      count("bytes", each.bytes);
      count("answered", each.answered);
      count("dropped", each.dropped);
      count("refused", each.refused);
      count("unanswered", each.unanswered);
      count("looped", each.looped);
      out += std::string(",\"waiting\":") + (each.waiting ? "true}" : "false}");
      comma = ",";
    }
    out += "],\"transports\":[";
    comma = "";
    for (const RouterTransportStats& each : all.transports) {
      out += std::string(comma) + "{\"name\":" + json_quoted(each.name);
      count("peers", each.peers);
      count("hosts", each.hosts);
      count("unmatched", each.unmatched);
      count("late_answers", each.late_answers);
      count("answers_lost", each.answers_lost);
      count("lost", each.lost);
      out += "}";
      comma = ",";
    }
    return out + "]}";
  }

 private:
  Host& host_;
  route::Shared shared_;
  std::vector<route::Counters> counters_;  // By the index of the entry.
  std::vector<std::unique_ptr<route::Port>> ports_;
  std::mutex stop_mutex_;
};

Router::Router(std::unique_ptr<State> state) : state_(std::move(state)) {}
Router::~Router() { stop(); }

TransportResult<std::unique_ptr<Router>> Router::create(Host& host) {
  auto state = std::make_unique<State>(host);
  auto made = state->make();
  if (!made) return {made.error, std::move(made.error_message)};
  return std::unique_ptr<Router>(new Router(std::move(state)));
}

TransportResult<> Router::start() {
  auto started = state_->start();
  if (!started) stop();
  return started;
}

void Router::stop() { state_->stop(); }
bool Router::uses(std::string_view transport) const noexcept { return state_->find(transport) != nullptr; }
RouterStats Router::getStats() const { return state_->stats(); }
std::string Router::getStatsJson() const { return state_->json(); }

}  // namespace cdmf::ipc
