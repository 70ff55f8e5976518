// UCX, tag-matching API over shared memory. Two subjects: posix shared memory alone, and with cross-memory attach
// (cma), which it prefers for large messages where the kernel lets one process read another. Receives are posted ahead,
// as its documentation advises; small sends complete at once, larger ones stay in flight in buffers of their own.
#include <poll.h>
#include <ucp/api/ucp.h>

#include <cstdio>
#include <fstream>
#include <thread>

#include "peers/link_bench.h"

namespace cdmf::bench {
namespace {

void require(ucs_status_t status, const char* what) {
  if (status != UCS_OK) throw std::runtime_error(std::string(what) + ": " + ucs_status_string(status));
}

constexpr ucp_tag_t kData = 1, kHello = 2;
constexpr std::size_t kInFlightBytes = std::size_t{8} << 10;  // Larger messages stay in flight.

class UcxLink {
 public:
  UcxLink(const Place& place, const char* transports) : place_(place) {
    ucp_config_t* config = nullptr;
    require(ucp_config_read(nullptr, nullptr, &config), "ucp_config_read");
    require(ucp_config_modify(config, "TLS", transports), "ucp_config_modify");
    ucp_params_t parameters{};
    parameters.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_MT_WORKERS_SHARED;
    parameters.features = UCP_FEATURE_TAG;
    if (!place.polls()) parameters.features |= UCP_FEATURE_WAKEUP;
    require(ucp_init(&parameters, config, &context_), "ucp_init");
    ucp_config_release(config);
    ucp_worker_params_t worker{};
    worker.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
    worker.thread_mode = UCS_THREAD_MODE_SINGLE;
    require(ucp_worker_create(context_, &worker, &worker_), "ucp_worker_create");
    if (!place.polls()) require(ucp_worker_get_efd(worker_, &fd_), "ucp_worker_get_efd");

    const std::size_t size = place.what.size_bytes;
    const std::size_t slots =
        place.what.pattern == Pattern::stream ? std::clamp<std::size_t>((std::size_t{2} << 20) / size, 4, 64) : 2;
    for (std::size_t i = 0; i < slots; ++i) {
      receives_.push_back(std::make_unique<Slot>(size));
      if (size > kInFlightBytes && place.what.pattern == Pattern::stream)
        sends_.push_back(std::make_unique<Slot>(size));
    }
    exchange_addresses();
    for (const auto& slot : receives_) post(*slot);
  }
  ~UcxLink() {
    // The process ends with this; what is in flight needs no orderly end, and asking the peer for one can hang.
    if (place_.server) ::unlink(place_.path(".ucx").c_str());
  }
  UcxLink(const UcxLink&) = delete;
  UcxLink& operator=(const UcxLink&) = delete;

  void send(std::span<const std::byte> message, bool) {
    if (endpoint_ == nullptr) meet_client();
    if (sends_.empty()) {
      void* const request = start(message);
      if (request != nullptr) finish(request);
      return;
    }
    Slot& slot = *sends_[next_send_++ % sends_.size()];
    if (slot.request != nullptr) finish(slot.request);
    std::memcpy(slot.bytes.data(), message.data(), message.size());
    slot.request = start(slot.bytes);
  }
  void drain() {
    for (const auto& slot : sends_) {
      if (slot->request != nullptr) finish(std::exchange(slot->request, nullptr));
    }
    ucp_request_param_t how{};
    void* const request = ucp_worker_flush_nbx(worker_, &how);
    if (UCS_PTR_IS_ERR(request)) require(UCS_PTR_STATUS(request), "ucp_worker_flush_nbx");
    if (request != nullptr) finish(request);
  }
  template <class Handler>
  std::size_t receive(Handler&& handler, std::size_t limit) {
    std::size_t count = 0;
    const auto look = [&] {
      for (; count < limit; ++count) {
        Slot& slot = *receives_[next_receive_ % receives_.size()];
        if (!slot.done) break;
        ++next_receive_;
        handler(std::span<const std::byte>(slot.bytes.data(), slot.received));
        post(slot);
      }
      if (count == 0) ucp_worker_progress(worker_);
      return count;
    };
    if (place_.polls()) return poll_some(look);
    if (look() != 0 || look() != 0) return count;
    while (ucp_worker_progress(worker_) != 0) {
    }
    if (look() != 0) return count;
    sleep();
    while (ucp_worker_progress(worker_) != 0) {
    }
    return look();
  }

 private:
  struct Slot {
    explicit Slot(std::size_t size) : bytes(size) {}
    std::vector<std::byte> bytes;
    bool done = false;
    std::size_t received = 0;
    void* request = nullptr;
  };

  static void received(void* request, ucs_status_t status, const ucp_tag_recv_info_t* info, void* user) {
    auto* const slot = static_cast<Slot*>(user);
    slot->received = status == UCS_OK ? info->length : 0;
    slot->done = true;
    ucp_request_free(request);
  }
  void post(Slot& slot) {
    slot.done = false;
    ucp_request_param_t how{};
    how.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_MEMORY_TYPE;
    how.cb.recv = received;
    how.user_data = &slot;
    how.memory_type = UCS_MEMORY_TYPE_HOST;
    const auto request = ucp_tag_recv_nbx(worker_, slot.bytes.data(), slot.bytes.size(), kData, ~ucp_tag_t{0}, &how);
    if (UCS_PTR_IS_ERR(request)) require(UCS_PTR_STATUS(request), "ucp_tag_recv_nbx");
    if (request == nullptr) {  // It was there already. UCX 1.13 does not always tell its size then; all have one.
      slot.received = slot.bytes.size();
      slot.done = true;
    }
  }
  void* start(std::span<const std::byte> bytes) {
    ucp_request_param_t how{};
    how.op_attr_mask = UCP_OP_ATTR_FIELD_MEMORY_TYPE;
    how.memory_type = UCS_MEMORY_TYPE_HOST;
    const auto request = ucp_tag_send_nbx(endpoint_, bytes.data(), bytes.size(), kData, &how);
    if (UCS_PTR_IS_ERR(request)) require(UCS_PTR_STATUS(request), "ucp_tag_send_nbx");
    return request;
  }
  void finish(void* request) {
    std::uint64_t tries = 0;
    while (ucp_request_check_status(request) == UCS_INPROGRESS) {
      if (ucp_worker_progress(worker_) != 0) continue;
      if (!place_.polls()) {
        sleep();
      } else if (place_.what.clients > 1 || ++tries % 4096 == 0) {
        sched_yield();
      }
    }
    ucp_request_free(request);
  }
  /// Until something is to be done. Armed only when nothing is left to do; else UCX says busy.
  void sleep() {
    if (ucp_worker_arm(worker_) != UCS_OK) return;
    pollfd wait{fd_, POLLIN, 0};
    ::poll(&wait, 1, 1000);
  }

  // The server's address is in a file; a client sends its own in its first message.
  void exchange_addresses() {
    ucp_address_t* own = nullptr;
    std::size_t own_size = 0;
    require(ucp_worker_get_address(worker_, &own, &own_size), "ucp_worker_get_address");
    const std::string path = place_.path(".ucx");
    if (place_.server) {
      std::ofstream(path + ".new", std::ios::binary)
          .write(reinterpret_cast<const char*>(own), static_cast<std::streamsize>(own_size));
      if (std::rename((path + ".new").c_str(), path.c_str()) != 0) throw std::runtime_error("cannot write " + path);
    } else {
      std::ifstream file(path, std::ios::binary);
      const std::string server((std::istreambuf_iterator<char>(file)), {});
      connect(server.data());
      if (place_.what.clients == 1) {
        ucp_request_param_t how{};
        void* const request = ucp_tag_send_nbx(endpoint_, own, own_size, kHello, &how);
        if (UCS_PTR_IS_ERR(request)) require(UCS_PTR_STATUS(request), "hello");
        if (request != nullptr) finish(request);
      }
    }
    ucp_worker_release_address(worker_, own);
  }
  void meet_client() {
    std::vector<char> address(4096);
    ucp_request_param_t how{};
    void* const request = ucp_tag_recv_nbx(worker_, address.data(), address.size(), kHello, ~ucp_tag_t{0}, &how);
    if (UCS_PTR_IS_ERR(request)) require(UCS_PTR_STATUS(request), "hello");
    if (request != nullptr) finish(request);
    connect(address.data());
  }
  void connect(const char* address) {
    ucp_ep_params_t parameters{};
    parameters.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS;
    parameters.address = reinterpret_cast<const ucp_address_t*>(address);
    require(ucp_ep_create(worker_, &parameters, &endpoint_), "ucp_ep_create");
  }

  const Place place_;
  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  ucp_ep_h endpoint_ = nullptr;
  int fd_ = -1;
  std::vector<std::unique_ptr<Slot>> receives_, sends_;
  std::size_t next_receive_ = 0, next_send_ = 0;
};

Subject subject(const std::string& name, const std::string& label, const char* transports) {
  Subject made;
  made.name = name;
  made.label = label;
  made.library = std::string("UCX ") + ucp_get_version_string();
  made.settings = [=](const Case& what) {
    return "UCX_TLS=" + std::string(transports) + ", posted receives" +
           (what.wait == Wait::poll ? ", ucp_worker_progress without pause" : ", ucp_worker_arm and poll()");
  };
  made.applies = [](const Case&) { return true; };
  made.measure = [=](const Case& what, const Setting& setting) {
    return measure_link<UcxLink>([=](const Place& place) { return std::make_unique<UcxLink>(place, transports); }, what,
                                 setting);
  };
  return made;
}

}  // namespace

std::vector<Subject> ucx_subjects() {
  return {subject("ucx", "UCX tag, posix shm", "posix"), subject("ucx_cma", "UCX tag, posix shm and cma", "posix,cma")};
}

}  // namespace cdmf::bench
