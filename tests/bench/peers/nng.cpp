// nng over ipc://: pair1 between two, push0 and pull0 from many. Its own threads do the work, so both ways of waiting
// are its own.
#include <nng/nng.h>
#include <nng/protocol/pair1/pair.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>

#include "peers/link_bench.h"

namespace cdmf::bench {
namespace {

void require(int error, const char* what) {
  if (error != 0) throw std::runtime_error(std::string(what) + ": " + nng_strerror(error));
}

int queue_length(const Case& what) {
  return static_cast<int>(
      std::clamp<std::size_t>((std::size_t{4} << 20) / what.size_bytes, 8, 8192));  // 8192: its most.
}

class NngLink {
 public:
  explicit NngLink(const Place& place) {
    if (place.what.clients == 1) {
      require(nng_pair1_open(&socket_), "nng_pair1_open");
    } else {
      require(place.server ? nng_pull0_open(&socket_) : nng_push0_open(&socket_), "nng_open");
    }
    const int queue = queue_length(place.what);
    (void)nng_socket_set_int(socket_, NNG_OPT_SENDBUF, queue);  // pull0 and push0 know one of the two each.
    (void)nng_socket_set_int(socket_, NNG_OPT_RECVBUF, queue);
    (void)nng_socket_set_ms(socket_, NNG_OPT_RECVTIMEO, 1000);
    (void)nng_socket_set_ms(socket_, NNG_OPT_SENDTIMEO, 20'000);
    (void)nng_socket_set_size(socket_, NNG_OPT_RECVMAXSZ, 0);
    const std::string address = "ipc://" + place.path(".nng");
    if (place.server) {
      require(nng_listen(socket_, address.c_str(), nullptr, 0), address.c_str());
    } else {
      require(nng_dial(socket_, address.c_str(), nullptr, 0), address.c_str());
    }
  }
  ~NngLink() { nng_close(socket_); }
  NngLink(const NngLink&) = delete;
  NngLink& operator=(const NngLink&) = delete;

  void send(std::span<const std::byte> bytes, bool) {
    nng_msg* message = nullptr;
    require(nng_msg_alloc(&message, bytes.size()), "nng_msg_alloc");
    std::memcpy(nng_msg_body(message), bytes.data(), bytes.size());
    require(nng_sendmsg(socket_, message, 0), "nng_sendmsg");
  }
  template <class Handler>
  std::size_t receive(Handler&& handler, std::size_t) {
    nng_msg* message = nullptr;
    const int error = nng_recvmsg(socket_, &message, 0);
    if (error == NNG_ETIMEDOUT) return 0;
    require(error, "nng_recvmsg");
    handler(std::span(static_cast<const std::byte*>(nng_msg_body(message)), nng_msg_len(message)));
    nng_msg_free(message);
    return 1;
  }

 private:
  nng_socket socket_{};
};

}  // namespace

std::vector<Subject> nng_subjects() {
  Subject made;
  made.name = "nng";
  made.label = "nng ipc";
  made.library = std::string("nng ") + nng_version();
  made.settings = [](const Case& what) {
    return std::string(what.clients > 1 ? "push0 and pull0" : "pair1") + ", queues of " +
           std::to_string(queue_length(what)) + ", nng_sendmsg and nng_recvmsg, its own threads";
  };
  made.applies = [](const Case&) { return true; };
  made.measure = [](const Case& what, const Setting& setting) { return measure_link<NngLink>(what, setting); };
  return {made};
}

}  // namespace cdmf::bench
