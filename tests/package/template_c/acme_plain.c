// A transport in plain C11, to copy where C++ is not at hand: it includes ipc/plugin_abi.h and nothing else of cdmf.
//   cc -std=c11 -shared -fPIC -fvisibility=hidden -pthread -I/opt/cdmf/include/cdmf acme_plain.c -o
//   libcdmf_acme_plain.so
// One peer over an abstract SOCK_SEQPACKET socket, as template/acme_packet.cpp, which says more about the whys.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "ipc/plugin_abi.h"

enum { QUEUE_MAX = 64, BACKLOG = 8, GOODBYE_MS = 200, NAME_MAX_BYTES = sizeof(((struct sockaddr_un*)0)->sun_path) - 1 };
static const char KIND_FRAME = 'F', KIND_GOODBYE = 'G';  // First byte of every packet.

struct frame {
  void* memory;  // From malloc(), which aligns to 16 as CDMF_FRAME_ALIGNMENT asks.
  size_t size;
};
_Static_assert(alignof(max_align_t) >= CDMF_FRAME_ALIGNMENT, "malloc() must align frames");

struct driver {
  bool is_server;
  uint64_t frame_size_max;
  char name[NAME_MAX_BYTES + 1];
  char address[NAME_MAX_BYTES + 8];
  void* received;     // The receiver's alone.
  int send_alarm;     // eventfds: end the sender's wait,
  int receive_alarm;  // the receiver's wait,
  int backlog_alarm;  // and make the receiver's thread look after the queue.

  pthread_mutex_t mutex;  // Guards what is below. Receiver and sender may be two threads.
  int listener;
  int socket;
  cdmf_peer peer;  // Counts up, so no id returns.
  bool announce;
  bool is_cut;  // Nothing can be sent any more; receive_burst() will see the end and its reason.
  cdmf_status end_reason;
  struct frame claimed;           // Stays when its link ends: a loan is valid memory until it is given back.
  struct frame queue[QUEUE_MAX];  // Committed: count of them, the oldest at first.
  size_t first, count;
  size_t flushed;  // So many of them, from the oldest, may leave.
};

static cdmf_status fail(cdmf_error* error, cdmf_status status, int os_errno, const char* format, ...) {
  va_list words;
  va_start(words, format);
  int length = vsnprintf(error->message, sizeof error->message, format, words);
  va_end(words);
  error->os_errno = os_errno;
  if (os_errno != 0 && length >= 0 && (size_t)length < sizeof error->message) {
    snprintf(error->message + length, sizeof error->message - (size_t)length, " (%s)", strerror(os_errno));
  }
  return status;
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// For poll(), rounded up, so that no wait ends before its deadline.
static int timeout_ms(uint64_t deadline) {
  if (deadline == 0) return 0;
  if (deadline == UINT64_MAX) return -1;
  const uint64_t now = now_ns();
  if (now >= deadline) return 0;
  const uint64_t milliseconds = (deadline - now + 999999) / 1000000;
  return milliseconds > 3600000 ? 3600000 : (int)milliseconds;
}

static void close_fd(int* fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

static void ring(int alarm) {
  const uint64_t one = 1;
  const ssize_t written = write(alarm, &one, sizeof one);  // Full means: it rings already.
  (void)written;
}

static void silence(int alarm) {
  uint64_t count;
  const ssize_t taken = read(alarm, &count, sizeof count);
  (void)taken;
}

// ---- The link. All with the mutex held.

static int new_socket(void) { return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

// A killed process gives back its descriptors from the highest number down. The listener goes first, or a client that
// notices the end of its link would be taken once more by the process that is dying.
static int above_all(int fd) {
  const int moved = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 512);
  if (moved < 0) return fd;  // Beyond the limit of descriptors: it stays where it is.
  close(fd);
  return moved;
}

// Abstract: the name starts with a zero byte, has a length, and vanishes with its last socket.
static socklen_t socket_address(const struct driver* d, struct sockaddr_un* address) {
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  memcpy(address->sun_path + 1, d->name, strlen(d->name));
  return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(d->name));
}

static void begin_link(struct driver* d, int made) {
  d->socket = made;
  ++d->peer;
  d->announce = true;
  d->end_reason = CDMF_PEER_DIED;
}

static void drop_frame(struct frame* frame) {
  free(frame->memory);
  *frame = (struct frame){NULL, 0};
}

static void end_link(struct driver* d) {
  if (d->socket >= 0) shutdown(d->socket, SHUT_RDWR);  // Wakes who still waits for it.
  close_fd(&d->socket);
  for (; d->count > 0; --d->count) {
    drop_frame(&d->queue[d->first]);
    d->first = (d->first + 1) % QUEUE_MAX;
  }
  d->flushed = 0;
  d->is_cut = false;
}

static bool send_packet(int socket, char kind, void* data, size_t size) {
  struct iovec parts[2] = {{&kind, 1}, {data, size}};
  const struct msghdr packet = {.msg_iov = parts, .msg_iovlen = 2};
  return sendmsg(socket, &packet, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

static void send_flushed(struct driver* d) {
  while (d->socket >= 0 && !d->is_cut && d->flushed > 0) {
    struct frame* frame = &d->queue[d->first];
    if (!send_packet(d->socket, KIND_FRAME, frame->memory, frame->size)) {
      d->is_cut = errno != EAGAIN && errno != EINTR && errno != ENOBUFS && errno != ENOMEM;
      return;
    }
    drop_frame(frame);
    d->first = (d->first + 1) % QUEUE_MAX;
    --d->count;
    --d->flushed;
  }
}

static void flush_queue(struct driver* d) {
  d->flushed = d->count;
  send_flushed(d);
  if (d->flushed > 0 && !d->is_cut) ring(d->backlog_alarm);
}

static void say_goodbye(struct driver* d) {
  const uint64_t deadline = now_ns() + GOODBYE_MS * UINT64_C(1000000);
  struct pollfd room = {d->socket, POLLOUT, 0};
  d->flushed = d->count;
  for (;;) {
    send_flushed(d);
    if (d->flushed == 0 && send_packet(d->socket, KIND_GOODBYE, NULL, 0)) return;
    if (d->is_cut || poll(&room, 1, timeout_ms(deadline)) <= 0 || (room.revents & ~POLLOUT) != 0) return;
  }
}

static int accept_client(const struct driver* d) {
  return accept4(d->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

// ---- Life

static void driver_close(void* self) {
  struct driver* d = self;
  pthread_mutex_lock(&d->mutex);
  // First, so that nobody comes back to a server that is leaving, and whoever is told finds the name free. Clients whom
  // the kernel took and nobody has seen are told, too.
  int unseen[BACKLOG + 1];
  size_t count = 0;
  if (d->listener >= 0) {
    shutdown(d->listener, SHUT_RDWR);
    while (count <= BACKLOG && (unseen[count] = accept_client(d)) >= 0) ++count;
    close_fd(&d->listener);
  }
  do {
    if (d->socket >= 0) say_goodbye(d);
    end_link(d);
    if (count > 0) d->socket = unseen[--count];
  } while (d->socket >= 0);
  close_fd(&d->send_alarm);
  close_fd(&d->receive_alarm);
  close_fd(&d->backlog_alarm);
  pthread_mutex_unlock(&d->mutex);
}

static cdmf_status driver_open(void* self, cdmf_error* error) {
  struct driver* d = self;
  d->send_alarm = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  d->receive_alarm = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  d->backlog_alarm = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (d->send_alarm < 0 || d->receive_alarm < 0 || d->backlog_alarm < 0) {
    const int reason = errno;
    driver_close(d);
    return fail(error, CDMF_RESOURCE_EXHAUSTED, reason, "acme_plain \"@%s\": no eventfd", d->name);
  }
  if (!d->is_server) return CDMF_OK;
  struct sockaddr_un address;
  const socklen_t length = socket_address(d, &address);
  d->listener = above_all(new_socket());
  if (d->listener < 0 || bind(d->listener, (struct sockaddr*)&address, length) != 0 ||
      listen(d->listener, BACKLOG) != 0) {
    const int reason = errno;
    driver_close(d);
    return fail(error, reason == EADDRINUSE ? CDMF_ENDPOINT_IN_USE : CDMF_RESOURCE_EXHAUSTED, reason,
                "acme_plain \"@%s\": cannot listen", d->name);
  }
  return CDMF_OK;
}

static cdmf_status driver_attach(void* self, uint64_t deadline, cdmf_peer* peer, cdmf_error* error) {
  (void)deadline;  // A local connect() does not wait.
  struct driver* d = self;
  struct sockaddr_un address;
  const socklen_t length = socket_address(d, &address);
  pthread_mutex_lock(&d->mutex);
  cdmf_status status = CDMF_OK;
  if (d->socket >= 0) {
    status = fail(error, CDMF_ALREADY_INITIALIZED, 0, "acme_plain: this client has its peer");
  } else {
    int made = new_socket();
    if (made < 0 || connect(made, (struct sockaddr*)&address, length) != 0) {
      const int reason = errno;
      close_fd(&made);
      status = reason == ECONNREFUSED
                   ? fail(error, CDMF_ENDPOINT_NOT_FOUND, reason,
                          "acme_plain \"@%s\": no server is listening; start one or check 'endpoint'", d->name)
                   : fail(error, CDMF_CONNECTION_FAILED, reason, "acme_plain \"@%s\": cannot be reached", d->name);
    } else {
      begin_link(d, made);
      *peer = d->peer;
    }
  }
  pthread_mutex_unlock(&d->mutex);
  return status;
}

static cdmf_status driver_disconnect(void* self, cdmf_peer peer, cdmf_status reason) {
  struct driver* d = self;
  pthread_mutex_lock(&d->mutex);
  const bool known = d->socket >= 0 && peer == d->peer;
  if (known) {
    d->end_reason = reason;
    say_goodbye(d);
    shutdown(d->socket, SHUT_RDWR);  // receive_burst() sees the end and reports it.
  }
  pthread_mutex_unlock(&d->mutex);
  return known ? CDMF_OK : CDMF_NOT_CONNECTED;
}

static void driver_destroy(void* self) {
  struct driver* d = self;
  driver_close(d);
  drop_frame(&d->claimed);
  pthread_mutex_destroy(&d->mutex);
  free(d->received);
  free(d);
}

static void driver_describe(void* self, cdmf_info* info) {
  struct driver* d = self;
  snprintf(d->address, sizeof d->address, "unix:@%s", d->name);
  info->capabilities = CDMF_CAP_INTER_PROCESS;
  info->frame_size_max = d->frame_size_max;
  info->address = d->address;
  info->detail = "";
}

// ---- Sending

static cdmf_status driver_claim(void* self, cdmf_peer peer, size_t size, cdmf_loan* loan) {
  struct driver* d = self;
  pthread_mutex_lock(&d->mutex);
  cdmf_status status = CDMF_OK;
  if (d->socket < 0 || peer != d->peer) {
    status = CDMF_NOT_CONNECTED;
  } else if (size > d->frame_size_max) {
    status = CDMF_BUFFER_OVERFLOW;
  } else if (d->claimed.memory != NULL) {
    status = CDMF_RESOURCE_EXHAUSTED;
  } else if (d->is_cut) {
    status = CDMF_NOT_CONNECTED;
  } else {
    if (d->count == QUEUE_MAX) d->flushed = d->count;  // A batch that fills the queue flushes itself.
    send_flushed(d);
    if (d->count == QUEUE_MAX) status = CDMF_BUFFER_FULL;
  }
  if (status == CDMF_OK) {
    d->claimed = (struct frame){malloc(size), size};
    if (d->claimed.memory == NULL) status = CDMF_RESOURCE_EXHAUSTED;
    *loan = (cdmf_loan){d->claimed.memory, size, peer, 0};
  }
  pthread_mutex_unlock(&d->mutex);
  return status;
}

static cdmf_status driver_commit(void* self, const cdmf_loan* loan, size_t size, uint32_t flush) {
  struct driver* d = self;
  pthread_mutex_lock(&d->mutex);
  const bool open = d->socket >= 0 && loan->peer == d->peer;
  if (open) {
    d->queue[(d->first + d->count++) % QUEUE_MAX] = (struct frame){d->claimed.memory, size};
    d->claimed = (struct frame){NULL, 0};
    if (flush != 0) flush_queue(d);
  } else {
    drop_frame(&d->claimed);
  }
  pthread_mutex_unlock(&d->mutex);
  return open ? CDMF_OK : CDMF_CONNECTION_CLOSED;
}

static void driver_abort(void* self, const cdmf_loan* loan) {
  struct driver* d = self;
  (void)loan;
  pthread_mutex_lock(&d->mutex);
  drop_frame(&d->claimed);
  pthread_mutex_unlock(&d->mutex);
}

// OK, INTERRUPTED when fds[1] rang, or TIMEOUT.
static cdmf_status wait_for(struct pollfd* fds, nfds_t count, uint64_t deadline) {
  for (;;) {
    const int ready = poll(fds, count, timeout_ms(deadline));
    if (ready < 0) continue;  // A signal.
    if (ready == 0) return CDMF_TIMEOUT;
    if (fds[1].revents == 0) return CDMF_OK;
    silence(fds[1].fd);
    return CDMF_INTERRUPTED;
  }
}

static cdmf_status driver_await_space(void* self, cdmf_peer peer, size_t size, uint64_t deadline) {
  struct driver* d = self;
  (void)size;
  pthread_mutex_lock(&d->mutex);
  // A descriptor of its own: the link may end meanwhile, and its number be used again.
  struct pollfd fds[2] = {{-1, POLLOUT, 0}, {d->send_alarm, POLLIN, 0}};
  cdmf_status status = CDMF_OK;
  if (d->socket < 0 || (peer != CDMF_NO_PEER && peer != d->peer)) {
    status = CDMF_NOT_CONNECTED;
  } else if (d->is_cut) {
    status = CDMF_NOT_CONNECTED;
  } else if ((fds[0].fd = dup(d->socket)) < 0) {
    status = CDMF_RESOURCE_EXHAUSTED;
  }
  pthread_mutex_unlock(&d->mutex);
  if (status == CDMF_OK) status = wait_for(fds, 2, deadline);
  close_fd(&fds[0].fd);
  return status;
}

static cdmf_status driver_flush(void* self, cdmf_peer peer, uint64_t deadline) {
  struct driver* d = self;
  for (;;) {
    pthread_mutex_lock(&d->mutex);
    cdmf_status status = CDMF_BUFFER_FULL;
    if (peer != CDMF_NO_PEER && (d->socket < 0 || peer != d->peer)) {
      status = CDMF_NOT_CONNECTED;
    } else {
      flush_queue(d);
      if (d->count == 0) status = CDMF_OK;
      if (d->is_cut) status = CDMF_NOT_CONNECTED;
    }
    pthread_mutex_unlock(&d->mutex);
    if (status != CDMF_BUFFER_FULL || deadline == 0) return status;
    status = driver_await_space(d, peer, 0, deadline);
    if (status != CDMF_OK) return status;
  }
}

// ---- Receiving

static bool receive_one(struct driver* d, cdmf_view* view) {
  char kind = 0;
  struct iovec parts[2] = {{&kind, 1}, {d->received, d->frame_size_max}};
  for (;;) {
    struct msghdr packet = {.msg_iov = parts, .msg_iovlen = 2};
    const ssize_t got = recvmsg(d->socket, &packet, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return false;
    // ECONNRESET comes before what the peer sent and we have not read yet.
    if (got < 0 && (errno == EINTR || errno == ECONNRESET)) continue;
    if (got > 1 && kind == KIND_FRAME && (packet.msg_flags & MSG_TRUNC) == 0) {
      view->kind = CDMF_VIEW_MESSAGE;
      view->frame = d->received;
      view->size = (size_t)got - 1;
      return true;
    }
    if (got == 1 && kind == KIND_GOODBYE) {
      if (d->end_reason == CDMF_PEER_DIED) d->end_reason = CDMF_CONNECTION_CLOSED;
    } else if (got > 0) {
      d->end_reason = CDMF_PROTOCOL_ERROR;
    }
    view->kind = CDMF_VIEW_PEER_DISCONNECTED;
    view->reason = d->end_reason;
    view->lost = d->count;
    end_link(d);
    return true;
  }
}

static size_t driver_receive_burst(void* self, cdmf_view* views, size_t capacity) {
  struct driver* d = self;
  if (capacity == 0) return 0;
  pthread_mutex_lock(&d->mutex);
  if (d->socket < 0 && d->listener >= 0) {
    const int made = accept_client(d);
    if (made >= 0) begin_link(d, made);
  }
  views[0] = (cdmf_view){.peer = d->peer, .kind = CDMF_VIEW_PEER_CONNECTED};
  bool got = d->socket >= 0;
  if (got && d->announce) {
    d->announce = false;
  } else if (got) {
    send_flushed(d);
    got = receive_one(d, &views[0]);
  }
  pthread_mutex_unlock(&d->mutex);
  return got ? 1 : 0;
}

static void driver_release_burst(void* self) { (void)self; }

static cdmf_status driver_await_messages(void* self, uint64_t deadline) {
  struct driver* d = self;
  for (;;) {
    pthread_mutex_lock(&d->mutex);
    const bool ready = d->socket >= 0 && d->announce;
    send_flushed(d);
    // Only this thread ends a link while it waits here, so the number stays its own.
    struct pollfd fds[3] = {{d->socket >= 0 ? d->socket : d->listener, POLLIN, 0},
                            {d->receive_alarm, POLLIN, 0},
                            {d->backlog_alarm, POLLIN, 0}};
    if (d->socket >= 0 && d->flushed > 0 && !d->is_cut) fds[0].events = POLLIN | POLLOUT;
    pthread_mutex_unlock(&d->mutex);
    if (ready) return CDMF_OK;
    const cdmf_status status = wait_for(fds, 3, deadline);
    if (fds[2].revents != 0) silence(d->backlog_alarm);
    if (status != CDMF_OK || (fds[0].revents & ~POLLOUT) != 0) return status;
  }
}

static void driver_interrupt(void* self) {
  struct driver* d = self;
  ring(d->send_alarm);
  ring(d->receive_alarm);
}

// ---- Not claimed, and so never asked for; a table has no gaps.

static cdmf_status driver_hold(void* self, cdmf_peer peer, uint64_t token, uint64_t* held) {
  (void)self, (void)peer, (void)token, (void)held;
  return CDMF_UNSUPPORTED;
}
static void driver_unhold(void* self, uint64_t held) { (void)self, (void)held; }
static int driver_poll_fd(void* self) {
  (void)self;
  return -1;
}
static cdmf_arm_result driver_arm(void* self) {
  (void)self;
  return CDMF_READY;
}
static const void* driver_get_extension(void* self, const char* name) {
  (void)self, (void)name;
  return NULL;
}

// ---- The plugin

static const cdmf_driver_ops ops = {.struct_size = sizeof(cdmf_driver_ops),
                                    .open = driver_open,
                                    .attach = driver_attach,
                                    .claim = driver_claim,
                                    .commit = driver_commit,
                                    .abort = driver_abort,
                                    .flush = driver_flush,
                                    .await_space = driver_await_space,
                                    .receive_burst = driver_receive_burst,
                                    .release_burst = driver_release_burst,
                                    .await_messages = driver_await_messages,
                                    .hold = driver_hold,
                                    .unhold = driver_unhold,
                                    .poll_fd = driver_poll_fd,
                                    .arm = driver_arm,
                                    .interrupt = driver_interrupt,
                                    .disconnect = driver_disconnect,
                                    .close = driver_close,
                                    .destroy = driver_destroy,
                                    .describe = driver_describe,
                                    .get_extension = driver_get_extension};

// The host has checked the options and filled in defaults: settings[] has exactly the rows of `properties`, in order.
static cdmf_status create(const cdmf_host* host, const cdmf_config* config, cdmf_driver* driver, cdmf_error* error) {
  (void)host;
  const char* prefix = config->settings[0].text;
  if (strlen(prefix) + strlen(config->endpoint) > NAME_MAX_BYTES) {
    return fail(error, CDMF_INVALID_CONFIG, 0,
                "prefix and endpoint together take %zu bytes; at most %d fit into a socket address",
                strlen(prefix) + strlen(config->endpoint), (int)NAME_MAX_BYTES);
  }
  struct driver* d = calloc(1, sizeof *d);
  void* received = malloc(config->frame_size_max);
  if (d == NULL || received == NULL || pthread_mutex_init(&d->mutex, NULL) != 0) {
    free(received);
    free(d);
    return fail(error, CDMF_RESOURCE_EXHAUSTED, 0, "acme_plain: out of memory");
  }
  d->is_server = config->role == CDMF_ROLE_SERVER;
  d->frame_size_max = config->frame_size_max;
  d->received = received;
  d->send_alarm = d->receive_alarm = d->backlog_alarm = d->listener = d->socket = -1;
  snprintf(d->name, sizeof d->name, "%s%s", prefix, config->endpoint);
  driver->self = d;
  driver->ops = &ops;
  return CDMF_OK;
}

static const void* get_extension(const char* name) {
  (void)name;
  return NULL;
}

static const cdmf_build_info build = {
    .struct_size = sizeof(cdmf_build_info), .compiler = __VERSION__, .language = "C11", .standard_library = ""};

static const cdmf_property properties[] = {{.struct_size = sizeof(cdmf_property),
                                            .type = CDMF_PROPERTY_TEXT,
                                            .name = "prefix",
                                            .default_text = "plain",
                                            .summary = "Put before the endpoint to make the socket's name."}};

extern const cdmf_plugin cdmf_plugin_v1;
__attribute__((visibility("default")))
const cdmf_plugin cdmf_plugin_v1 = {.struct_size = sizeof(cdmf_plugin),
                                    .magic = CDMF_PLUGIN_MAGIC,
                                    .abi_major = CDMF_ABI_MAJOR,
                                    .abi_minor = CDMF_ABI_MINOR,
                                    .min_host_minor = 0,
                                    .build = &build,
                                    .type = "acme_plain",
                                    .version = "1.0.0",
                                    .vendor = "Acme",
                                    .license = "MIT",
                                    .summary = "Whole packets to one peer over a SOCK_SEQPACKET socket, in C",
                                    .capabilities = CDMF_CAP_INTER_PROCESS,
                                    .max_message_size_limit = 64 * 1024,
                                    .properties = properties,
                                    .property_count = sizeof properties / sizeof properties[0],
                                    .create = create,
                                    .get_extension = get_extension};
