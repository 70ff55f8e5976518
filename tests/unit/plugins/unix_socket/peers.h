#pragma once
// Peers of a server under test: in other processes, see child.h, and by hand over a raw socket.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <map>
#include <string>
#include <thread>

#include "child.h"
#include "endpoint_path.h"
#include "runtime_directory.h"
#include "unit/plugins/c_driver.h"
#include "unix_socket_driver.h"
#include "wire.h"

namespace cdmf::ipc::unix_socket {

using ipc::test::CDriver;
using ipc::test::Event;
using ipc::test::in;
using ipc::test::kWatchdog;
using ipc::test::pattern;
using test::Child;
using test::Gate;
using test::RuntimeDirectory;
using namespace std::chrono_literals;

inline const cdmf_plugin kPlugin = make_plugin<UnixSocketDriver>(kDescription);
inline constexpr std::size_t kLargest = 65536 + CDMF_FRAME_OVERHEAD_MAX;

using Options = std::map<std::string, std::string>;

/// In a child: opens a client and attaches as soon as a server is there.
inline bool join(CDriver& client) {
  if (client.open() != CDMF_OK) return false;
  const std::uint64_t deadline = in(kWatchdog);
  while (monotonic_now_ns() < deadline) {
    const cdmf_status status = client.attach();
    if (status == CDMF_OK) return client.next().is(CDMF_VIEW_PEER_CONNECTED);
    if (status != CDMF_ENDPOINT_NOT_FOUND) return false;
    std::this_thread::sleep_for(1ms);
  }
  return false;
}

/// A raw socket at the endpoint; -1 when nobody listens within the watchdog.
inline int raw_connect(const std::string& endpoint) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = endpoint_path(endpoint).socket;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const std::uint64_t deadline = in(kWatchdog);
  while (monotonic_now_ns() < deadline) {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
    close(fd);
    std::this_thread::sleep_for(1ms);
  }
  return -1;
}

/// Says hello over a raw socket; false when the server does not let it in.
inline bool raw_hello(int fd) {
  Hello hello;
  hello.frame_size_max = 1000;
  Hello answer;
  return write(fd, &hello, sizeof hello) == sizeof hello &&
         recv(fd, &answer, sizeof answer, MSG_WAITALL) == sizeof answer && answer.magic == kHelloMagic &&
         answer.status == CDMF_OK;
}

}  // namespace cdmf::ipc::unix_socket
