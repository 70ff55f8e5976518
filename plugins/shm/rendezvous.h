#pragma once
// rendezvous.h: how two processes come to share a segment, and how each learns of the other's end. One kind for each
// value of the option `segment`:
//   memfd   SocketRendezvous   a Unix socket where a server hands each client a sealed memory file of its own
//   posix   ObjectRendezvous   a named object, for one client
#include <cstdint>
#include <memory>
#include <string>

#include "channel.h"
#include "inspect/page.h"
#include "ipc/driver.h"
#include "link.h"
#include "options.h"

namespace cdmf::ipc::shm {

/// What a client asks of a server.
struct LinkRequest {
  bool may_sleep = false;
  std::int32_t only_cpu = kSeveralCpus;
  std::uint64_t frame_size_max = 0;
  std::uint64_t ring_bytes = 0;  // 0: as the server has it.
};

class Rendezvous {
 public:
  /// The driver, as its rendezvous sees it. All are called on the thread of the rendezvous.
  struct Owner {
    virtual ~Owner() = default;
    /// Decides about a client whose request is understood: fills in terms (id, plan, hostile). Otherwise says why not.
    virtual cdmf_status admit(const LinkRequest& request, const PeerCredentials& peer, LinkTerms& terms,
                              ErrorText& error) = 0;
    /// The admitted client did not get as far as a link.
    virtual void dismissed(cdmf_peer id) = 0;
    /// A client was turned away.
    virtual void refused(cdmf_status /*reason*/, const char* /*text*/) noexcept {}
    /// Makes a page of counters for an observer (inspect/page.h).
    virtual cdmf_status report(UniqueFd& /*page*/, ErrorText& error) {
      return error.fail(CDMF_UNSUPPORTED, 0, "shm: this endpoint keeps no counters");
    }
    /// The same figures, for a rendezvous that shows them in another way. Also called by open().
    virtual void observe(Snapshot& /*seen*/) {}
    virtual void connected(std::shared_ptr<Link> link) = 0;
    /// Has the receiver look at this link, and wakes whoever sleeps in this driver: the link has ended, or its peer
    /// rang through the channel.
    virtual void kick(cdmf_peer link) = 0;
  };
  /// What a client has after attach(); the driver makes a Link of it, and adds id and hostile to the terms.
  struct Attached {
    LinkTerms terms;
    Segment segment;
    std::unique_ptr<Channel> channel;
    UniqueFd own_bell;   // Wakes this side; none: the channel does.
    UniqueFd peer_bell;  // Wakes the peer; likewise.
  };

  Rendezvous() = default;
  virtual ~Rendezvous() = default;
  Rendezvous(const Rendezvous&) = delete;
  Rendezvous& operator=(const Rendezvous&) = delete;

  /// A server takes its endpoint and lets clients in from now on. Starts the thread that calls the owner.
  virtual cdmf_status open(ErrorText& error) = 0;
  /// A client's way to its server; waits until the deadline. [receiver]
  virtual cdmf_status attach(std::uint64_t deadline, Attached& attached, ErrorText& error) = 0;
  /// Notices the end of the link that was attached. [receiver]
  virtual void watch(std::shared_ptr<Link> link) = 0;
  /// Something happened that the driver's figures tell of: observers are to see it. [any, while open]
  virtual void tell_observers() noexcept {}
  /// Gives the endpoint up. No call to the owner runs after it, and no link comes or ends. Idempotent.
  virtual void close() noexcept = 0;
  /// Where the endpoint is, for people.
  virtual std::string address() const = 0;
};

/// Of the kind that the options choose. options must outlive it.
std::unique_ptr<Rendezvous> make_rendezvous(const Options& options, Rendezvous::Owner& owner, PluginHost host);

}  // namespace cdmf::ipc::shm
