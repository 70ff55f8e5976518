#include "inspect/look.h"

#include <poll.h>
#include <unistd.h>

#include <cstdio>

#include "inspect/process_state.h"

namespace cdmf::ipc::shm {

void answer_look(int socket, const PacketHeader& look,
                 const std::function<cdmf_status(UniqueFd& page, ErrorText& error)>& make_page) {
  cdmf_error text{};
  text.struct_size = sizeof text;
  ErrorText error(&text);
  Page answer;
  UniqueFd page;
  PeerCredentials observer;
  if (!peer_credentials(socket, observer) || (observer.uid != geteuid() && observer.uid != 0)) {
    answer.status = error.fail(CDMF_PERMISSION_DENIED, 0, "shm: the server runs as user ", geteuid(),
                               "; only that user and root may look into it");
  } else if (answer.status = check_header(look, PacketKind::look, "observer", error); answer.status == CDMF_OK) {
    answer.status = make_page(page, error);
  }
  if (answer.status == CDMF_OK) {
    const int fd = page.get();
    send_packet(socket, &answer, sizeof answer, {&fd, 1});
    return;
  }
  std::snprintf(answer.text, sizeof answer.text, "%.*s", static_cast<int>(sizeof answer.text - 1), text.message);
  send_packet(socket, &answer, sizeof answer);
}

cdmf_status ask_for_page(int socket, std::uint64_t deadline, PeerCredentials& server, UniqueFd& page,
                         ErrorText& error) {
  // Root may look anywhere; nobody looks at what a stranger put in the server's place.
  if (!peer_credentials(socket, server) || (server.uid != geteuid() && server.uid != 0 && geteuid() != 0)) {
    return error.fail(CDMF_PERMISSION_DENIED, 0, "shm: the server runs as user ", server.uid, ", this side as ",
                      geteuid(), "; only the same user or root may look into it");
  }
  const Look look;
  if (!send_packet(socket, &look, sizeof look)) {
    return error.fail(CDMF_CONNECTION_FAILED, errno, "shm: the server closed the connection");
  }
  Page answer;
  UniqueFd file;
  for (;;) {
    const Received received = receive_packet(socket, &answer, sizeof answer, {&file, 1}, sizeof answer);
    if (received == Received::packet) break;
    if (received == Received::malformed) {
      return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the answer of the server (pid ", server.pid, ") is malformed");
    }
    if (received == Received::closed) {
      return error.fail(CDMF_VERSION_MISMATCH, 0, "shm: the server (pid ", server.pid,
                        ") hung up; it may be of a release that shows no counters");
    }
    pollfd wait{socket, POLLIN, 0};
    if (poll(&wait, 1, poll_timeout_ms(deadline)) == 0 && deadline != kForever && monotonic_now_ns() >= deadline) {
      return error.fail(CDMF_TIMEOUT, 0, "shm: the server, process ", server.pid, ", ", state_of(server.pid),
                        ", did not answer in time");
    }
  }
  if (const cdmf_status status = check_header(answer.header, PacketKind::page, "server", error); status != CDMF_OK) {
    return status;
  }
  if (answer.status != CDMF_OK) {
    answer.text[sizeof answer.text - 1] = '\0';
    const bool known = answer.status > CDMF_OK && answer.status <= CDMF_INTERNAL_ERROR;
    return error.fail(known ? answer.status : CDMF_PROTOCOL_ERROR, 0, answer.text);
  }
  if (!file) return error.fail(CDMF_PROTOCOL_ERROR, 0, "shm: the server's answer carries no page of counters");
  page = std::move(file);
  return CDMF_OK;
}

}  // namespace cdmf::ipc::shm
