// ZeroMQ over ipc://: PAIR between two, PUSH and PULL from many. Its sockets cannot be polled without its I/O thread
// doing the work, so both ways of waiting are its own.
#include <zmq.h>

#include <cerrno>

#include "peers/link_bench.h"

namespace cdmf::bench {
namespace {

[[noreturn]] void fail(const char* what) { throw std::runtime_error(std::string(what) + ": " + zmq_strerror(errno)); }

int high_water_mark(const Case& what) {
  return static_cast<int>(std::clamp<std::size_t>((std::size_t{4} << 20) / what.size_bytes, 8, 8192));
}

class ZeroMqLink {
 public:
  explicit ZeroMqLink(const Place& place) : place_(place), context_(zmq_ctx_new()) {
    const bool many = place.what.clients > 1;
    socket_ = zmq_socket(context_, many ? (place.server ? ZMQ_PULL : ZMQ_PUSH) : ZMQ_PAIR);
    if (socket_ == nullptr) fail("zmq_socket");
    const int mark = high_water_mark(place.what), second = 1000, patience = 20'000, linger = 0;
    zmq_setsockopt(socket_, ZMQ_SNDHWM, &mark, sizeof mark);
    zmq_setsockopt(socket_, ZMQ_RCVHWM, &mark, sizeof mark);
    zmq_setsockopt(socket_, ZMQ_RCVTIMEO, &second, sizeof second);
    zmq_setsockopt(socket_, ZMQ_SNDTIMEO, &patience, sizeof patience);
    zmq_setsockopt(socket_, ZMQ_LINGER, &linger, sizeof linger);
    const std::string address = "ipc://" + place.path(".zmq");
    if ((place.server ? zmq_bind : zmq_connect)(socket_, address.c_str()) != 0) fail(address.c_str());
  }
  ~ZeroMqLink() {
    zmq_close(socket_);
    zmq_ctx_term(context_);
    if (place_.server) ::unlink(place_.path(".zmq").c_str());
  }
  ZeroMqLink(const ZeroMqLink&) = delete;
  ZeroMqLink& operator=(const ZeroMqLink&) = delete;

  void send(std::span<const std::byte> message, bool) {
    if (zmq_send(socket_, message.data(), message.size(), 0) < 0) fail("zmq_send");
  }
  template <class Handler>
  std::size_t receive(Handler&& handler, std::size_t limit) {
    std::size_t count = 0;
    for (; count < limit; ++count) {
      zmq_msg_t message;
      zmq_msg_init(&message);
      if (zmq_msg_recv(&message, socket_, count == 0 ? 0 : ZMQ_DONTWAIT) < 0) {
        zmq_msg_close(&message);
        if (errno == EAGAIN || errno == EINTR) break;
        fail("zmq_msg_recv");
      }
      handler(std::span(static_cast<const std::byte*>(zmq_msg_data(&message)), zmq_msg_size(&message)));
      zmq_msg_close(&message);
    }
    return count;
  }

 private:
  const Place place_;
  void* context_;
  void* socket_ = nullptr;
};

}  // namespace

std::vector<Subject> zeromq_subjects() {
  int major = 0, minor = 0, patch = 0;
  zmq_version(&major, &minor, &patch);
  Subject made;
  made.name = "zeromq";
  made.label = "ZeroMQ ipc";
  made.library = "libzmq " + std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch);
  made.settings = [](const Case& what) {
    return std::string(what.clients > 1 ? "PUSH and PULL" : "PAIR") + ", high-water marks " +
           std::to_string(high_water_mark(what)) + ", one I/O thread an end, blocking calls";
  };
  made.applies = [](const Case&) { return true; };
  made.measure = [](const Case& what, const Setting& setting) { return measure_link<ZeroMqLink>(what, setting); };
  return {made};
}

}  // namespace cdmf::bench
