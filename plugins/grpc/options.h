#pragma once
// options.h: what the transport can be told, and where an endpoint is.
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "ipc/driver.h"
#include "ipc/plugin.h"

namespace cdmf::ipc::grpc_transport {

inline constexpr cdmf_property kProperties[] = {
    text_property("address", "auto",
                  "Where the endpoint is, the same at both ends. auto: a Unix socket derived from endpoint, in a "
                  "directory of this user. unix:/path/to/socket, or host:port (a server may listen on 0.0.0.0:port or "
                  "[::]:port)."),
    text_property("tls_ca", "",
                  "File with the certificates (PEM) of who may sign the other end's certificate. Nothing else is "
                  "trusted: neither the system's list nor the environment."),
    text_property("tls_cert", "", "File with this end's certificate chain (PEM). Both ends show one."),
    text_property("tls_key", "",
                  "File with the private key (PEM) of tls_cert. Must belong to this user or root and be readable by "
                  "nobody else."),
    text_property("tls_server_name", "",
                  "Client: the name that the server's certificate must carry. Empty: the host of address; localhost "
                  "for Unix sockets."),
    text_property("allow_peers", "",
                  "Server: common names or alternative names of certificates that are let in, separated by commas. "
                  "Empty: everyone with a certificate signed by tls_ca."),
    duration_property("tls_refresh", "10s", "1s", "24h",
                      "How often the files are looked at again; changed ones count for new connections."),
    bool_property("insecure", "false",
                  "true: plain text without TLS, on loopback addresses and Unix sockets. The same at both ends."),
    bool_property("allow_remote_insecure", "false",
                  "true: insecure works on every address. Anybody on the way can read, change and send messages."),
    size_property("send_buffer", "1MiB", "4KiB", "1GiB",
                  "Bytes that may wait in this process for one peer; then senders see BUFFER_FULL. At least one "
                  "largest message; the default grows to two."),
    size_property("receive_buffer", "1MiB", "4KiB", "1GiB",
                  "Bytes of one peer that may wait in this process for the program; then nothing more is read, and "
                  "the peer is held up. One message more may be on its way."),
    int_property("max_clients", "1024", "1", "65536", "Server: links at once; further clients are refused."),
    duration_property("keepalive_interval", "30s", "1s", "24h",
                      "After so long without a sign of the peer it is asked for one. Servers put up with clients that "
                      "ask down to every second."),
    duration_property("keepalive_timeout", "10s", "100ms", "1h",
                      "A peer that gives no sign for so long after it was asked has died."),
    duration_property("spin_budget", "100us", "0", "10ms",
                      "Longest time that a receiver which gets messages in quick succession looks for the next one "
                      "before it sleeps; less when that does not pay. 0: it sleeps at once."),
    duration_property("linger", "1s", "0", "60s",
                      "How long closing waits, in all, for peers to take what was accepted for them."),
};
inline constexpr TransportDescription kDescription{
    .type = "grpc",
    .vendor = "cdmf",
    .license = "Apache-2.0",
    .summary = "gRPC streams with mutual TLS: one server and many clients on any machine",
    .capabilities = CDMF_CAP_MANY_PEERS | CDMF_CAP_INTER_PROCESS | CDMF_CAP_INTER_HOST | CDMF_CAP_HOLD |
                    CDMF_CAP_POLL_FD | CDMF_CAP_TIMESTAMP | CDMF_CAP_ENCRYPTED,
    .max_message_size_limit = std::uint64_t{1} << 28,
    .properties = kProperties,
};

/// Where an endpoint is, in gRPC's words.
struct Address {
  std::string target;       ///< "unix:/run/…", "host:port"
  std::string socket_path;  ///< Unix sockets: the file; otherwise empty
  bool derived = false;     ///< socket_path lies in the directory of this user, which the server makes
  bool local = false;       ///< stays on this machine
};

struct Options {
  /// Throws ConfigError for what cannot work together.
  explicit Options(const DriverConfig& config);

  bool server;
  std::string endpoint;
  std::size_t frame_size_max;
  Address address;
  std::string tls_ca;
  std::string tls_cert;
  std::string tls_key;
  std::string tls_server_name;
  std::vector<std::string> allow_peers;
  bool insecure;
  std::size_t send_bytes;
  std::size_t receive_bytes;
  std::size_t clients_max;
  std::chrono::nanoseconds tls_refresh;
  std::chrono::nanoseconds keepalive_interval;
  std::chrono::nanoseconds keepalive_timeout;
  std::chrono::nanoseconds spin_budget;
  std::chrono::nanoseconds linger;
};

/// Looks at the files of tls_*: readable, of the right kind, key and certificate of one pair, valid now, the key
/// nobody else's to read. INVALID_CONFIG or PERMISSION_DENIED with the option and the file otherwise.
[[nodiscard]] cdmf_status check_tls_files(const Options& options, ErrorText& error);

}  // namespace cdmf::ipc::grpc_transport
