#pragma once
// object_rendezvous.h: meeting at a named object (segment: posix), for one server and one client, without a socket.
//
// The server makes the object, whole, and holds it present (segment/named_object.h). Everything the two tell each other
// stands in the control block, in the lines of who says it (SegmentEnd):
//
//   client.stage   0 -> 1   by the client that got the client's lock: it asks for the link, its facts are there   ASKED
//   server.stage   0 -> 1   the link stands, or -> 2: refused                                                 ANSWERED
//   goodbye                 why a side ended the link
// ASKED and ANSWERED are store(release) -> load(acquire), for what its writer wrote before.
//
// A segment serves one link. When that has ended, the server puts a new one, of the next generation, in its place, in
// one step. A second client finds the client's lock taken and is told so; a client that comes between two generations
// finds the old one used, and looks again.
//
// Nobody polls. Each side watches the object's inode with inotify: IN_CLOSE_WRITE says that a process let go of it,
// which a death does as well; IN_ATTRIB is the client's ring, and IN_MODIFY the server's. These only say when to look.
// What is true, the words and the locks say: a side is dead when its lock is free, however the number of its pid reads.
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "log_limit.h"
#include "object_channel.h"
#include "options.h"
#include "rendezvous.h"
#include "segment/unique_fd.h"

namespace cdmf::ipc::shm {

class ObjectRendezvous final : public Rendezvous {
 public:
  /// options must outlive it.
  ObjectRendezvous(const Options& options, Owner& owner, PluginHost host);
  ~ObjectRendezvous() override { ObjectRendezvous::close(); }

  cdmf_status open(ErrorText& error) override;
  cdmf_status attach(std::uint64_t deadline, Attached& attached, ErrorText& error) override;
  void watch(std::shared_ptr<Link> link) override;
  void tell_observers() noexcept override;
  void close() noexcept override;
  std::string address() const override { return "object " + name_ + " in /dev/shm"; }

 private:
  struct Events {
    bool rang = false;    // The peer did.
    bool closed = false;  // Somebody closed the object.
  };

  // A server's, on the thread.
  cdmf_status publish(ErrorText& error);
  void publish_or_try_later();
  void answer();
  void write_notes();
  // Either side's.
  cdmf_status open_object(std::uint64_t deadline, SharedObject& object, SegmentPlan& plan, ErrorText& error);
  cdmf_status ask(std::uint64_t deadline, SharedObject& object, ErrorText& error);
  void run();
  Events take_events();
  void look(bool rang);
  cdmf_status end_of_link() const;
  void end_link(cdmf_status reason);
  bool watch_object() noexcept;
  void watch_process(std::int32_t pid) noexcept;
  void unwatch() noexcept;
  std::unique_ptr<Channel> channel_to(const std::shared_ptr<SharedObject>& object);
  EndFacts own_facts() const;

  const Options& options_;
  Owner& owner_;
  const PluginHost host_;
  std::string name_;

  UniqueFd epoll_;
  UniqueFd inotify_;
  std::shared_ptr<UniqueFd> wake_;  // An eventfd, also of the channels: look again, or stop.
  std::atomic<bool> stops_{false};
  std::atomic<bool> notes_due_{false};
  std::thread thread_;
  std::uint64_t look_again_at_ = 0;  // The thread's own: at once, as a client may ask before it is heard; with
  std::uint64_t look_pause_ns_ = 0;  // the pause to the next look; 0: none.

  std::mutex mutex_;                         // Over the rest: watch() is the receiver's, all else the thread's.
  std::shared_ptr<SharedObject> object_;     // The server's present one; a client's while it has a link.
  std::shared_ptr<Link> link_;               // Over that object. None: nobody has asked for it yet.
  std::shared_ptr<SharedObject> attaching_;  // Between a client's attach() and watch().
  int object_watch_ = -1;
  UniqueFd process_;  // A pidfd of the peer, where the number means something here.
  std::uint64_t generation_ = 0;
  std::uint64_t publish_again_at_ = 0;  // 0: nothing waits to be published.
  bool had_link_ = false;               // The present segment.
  std::uint64_t wasted_until_ = 0;      // Segments that came to nothing are paid for up to then.
  LogLimit complaints_;
};

}  // namespace cdmf::ipc::shm
