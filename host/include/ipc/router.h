#pragma once
// ipc/router.h: passes messages from one transport on to another, as the `routes` of a file say.
//
//   routes:
//     - { from: local, to: remote, match: "orders.*", both_ways: true, when_down: block }
//
//   auto host = Host::load("bridge.yaml");
//   auto router = Router::create(*host.value);   // everything checked
//   router.value->start();                       // servers listen, clients keep trying to reach theirs
//
// What goes where
//   A message that comes over `from` and whose subject matches goes to `to`; the first route of the file that matches
//   wins. both_ways: what comes over `to` goes to `from` by the same rule. A request goes to one peer of the other
//   transport, to each in turn where there are several; anything else to all of them. Answers need no route: they go
//   back to the peer that asked, over any number of hosts, with the id it chose.
// Order
//   Messages of one peer that go to one peer stay in order, requests and events alike. Answers have an order of their
//   own.
// When the other side is down or full (WhenDown)
//   block: the message waits, and everything else that came over the same transport behind it; its senders then see
//   BUFFER_FULL or wait. Two routes that block each other's way, with both applications only sending and never
//   receiving, wait for ever, as the applications would without them. drop_newest_counted: it is dropped and counted;
//   the caller of a request is told. fail: at once when down, after send_timeout when full, a request is answered
//   NOT_SENT; anything else ends the link it came over, which is the only way to tell. A peer that does not take its
//   answers for send_timeout is disconnected.
// What nobody matches, is too large, or has passed kHopsMax routes (a loop)
//   is counted and logged; the caller of a request is told.
// Losses
//   A link that ends takes with it what it had not delivered, and a host that dies what it had not passed on.
//   RouterTransportStats::lost counts both: behind a link to another host at least what is lost, and at most some
//   hundreds more (host/src/route/receipts.h); behind one to a program what its transport knows of. Requests on their
//   way then are answered with UNKNOWN.
// Roles
//   Of the transports, those that some route comes `from` are servers, the others clients, unless the file says `role`.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ipc/host.h"

namespace cdmf::ipc {

inline constexpr unsigned kHopsMax = 16;

struct RouteStats {
  std::string from;
  std::string to;
  std::string match;
  std::uint64_t forwarded = 0;       ///< messages from `from` given to `to`
  std::uint64_t forwarded_back = 0;  ///< both_ways: the other way
  std::uint64_t bytes = 0;           ///< payload of both
  std::uint64_t answered = 0;        ///< answers taken back to those who asked
  std::uint64_t dropped = 0;         ///< not passed on: down, full, or waiting when the router stopped
  std::uint64_t refused = 0;         ///< not passed on, and the sender was told: down, full, too large, too late
  std::uint64_t unanswered = 0;      ///< requests passed on whose link then ended
  std::uint64_t looped = 0;          ///< came round more than kHopsMax times
  bool waiting = false;              ///< now, with a message that cannot be passed on
};

struct RouterTransportStats {
  std::string name;
  std::uint64_t peers = 0;  ///< now
  std::uint64_t hosts = 0;  ///< of them: those that pass on what they get, as far as they have said so
  std::uint64_t unmatched = 0;
  std::uint64_t late_answers = 0;  ///< and others that nobody here waits for
  std::uint64_t answers_lost = 0;  ///< who had asked was gone, or did not take it
  std::uint64_t lost = 0;          ///< with links that ended: see Losses above
};

struct RouterStats {
  std::vector<RouteStats> routes;
  std::vector<RouterTransportStats> transports;
};

/// All routes of one file, with a thread for each transport they name. Any thread may call anything.
class Router {
 public:
  /// Makes the transports that the routes name. host outlives the router. INVALID_ARGUMENT: the file has no routes;
  /// others as Host::create().
  static TransportResult<std::unique_ptr<Router>> create(Host& host);
  ~Router();
  Router(const Router&) = delete;
  Router& operator=(const Router&) = delete;

  /// Servers listen when it returns; clients are connected later, and again whenever their server comes back.
  /// Errors as Transport::connect() of a server, with its name.
  TransportResult<> start();
  /// Ends all of it; what was passed on is flushed. Idempotent.
  void stop();

  /// Whether a route comes from or leads to that transport.
  [[nodiscard]] bool uses(std::string_view transport) const noexcept;
  [[nodiscard]] RouterStats getStats() const;
  /// The same as JSON: what a request with subject `cdmf.routes` is answered with, over each of the transports.
  [[nodiscard]] std::string getStatsJson() const;

 private:
  class State;
  explicit Router(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace cdmf::ipc
