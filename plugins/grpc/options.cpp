#include "options.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "wire.h"

namespace cdmf::ipc::grpc_transport {
namespace {

/// $XDG_RUNTIME_DIR/cdmf, or a directory of this user in /tmp; the server checks that it is this user's alone.
std::string runtime_directory() {
  // secure_getenv: in a set-user-ID program the caller must not choose where it meets its peers.
  const char* const runtime = secure_getenv("XDG_RUNTIME_DIR");
  if (runtime != nullptr && runtime[0] == '/') return std::string(runtime) + "/cdmf";
  return "/tmp/cdmf-" + std::to_string(geteuid());
}

/// FNV-1a: a name of fixed length, for socket paths are short. Two endpoints with one hash are told apart by the
/// endpoint in the metadata.
std::string name_of(std::string_view endpoint) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char each : endpoint) hash = (hash ^ static_cast<unsigned char>(each)) * 0x100000001b3u;
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string name = "grpc-";
  for (int shift = 60; shift >= 0; shift -= 4) name += kDigits[hash >> shift & 15];
  return name;
}

bool is_loopback(std::string_view host) {
  return host == "localhost" || host == "[::1]" ||
         (host.starts_with("127.") && host.find_first_not_of("0123456789.") == std::string_view::npos);
}

Address address_of(const char* endpoint, std::string_view text) {
  Address address;
  if (text == "auto") {
    address.socket_path = runtime_directory() + '/' + name_of(endpoint);
    address.derived = true;
  } else if (text.starts_with("unix:/")) {
    address.socket_path = text.substr(5);
  } else {
    const auto colon = text.rfind(':');
    const std::string_view host = text.substr(0, colon == std::string_view::npos ? 0 : colon);
    const std::string_view port = colon == std::string_view::npos ? "" : text.substr(colon + 1);
    const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
    const bool number = !port.empty() && port.size() <= 5 && port.find_first_not_of("0123456789") == port.npos &&
                        std::atoi(std::string(port).c_str()) >= 1 && std::atoi(std::string(port).c_str()) <= 65535;
    if (host.empty() || !number || (!bracketed && host.find_first_of(":/ ") != host.npos)) {
      throw ConfigError("address \"", text, "\" is none of auto, unix:/path and host:port (port 1 to 65535)");
    }
    address.target = text;
    address.local = is_loopback(host);
    return address;
  }
  if (address.socket_path.size() > 100) {
    throw ConfigError("address: the path ", address.socket_path, " is longer than the 100 bytes a socket can have");
  }
  address.target = "unix:" + address.socket_path;
  address.local = true;
  return address;
}

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  while (!text.empty()) {
    const auto comma = std::min(text.find(','), text.size());
    std::string_view word = text.substr(0, comma);
    while (!word.empty() && word.front() == ' ') word.remove_prefix(1);
    while (!word.empty() && word.back() == ' ') word.remove_suffix(1);
    if (word.empty()) throw ConfigError("allow_peers: an empty name between commas");
    words.emplace_back(word);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return words;
}

}  // namespace

Options::Options(const DriverConfig& config)
    : server(config.is_server()),
      endpoint(config.endpoint()),
      frame_size_max(config.frame_size_max()),
      address(address_of(config.endpoint(), config.text("address"))),
      tls_ca(config.text("tls_ca")),
      tls_cert(config.text("tls_cert")),
      tls_key(config.text("tls_key")),
      tls_server_name(config.text("tls_server_name")),
      allow_peers(words_of(config.text("allow_peers"))),
      insecure(config.number("insecure") != 0),
      send_bytes(static_cast<std::size_t>(config.number("send_buffer"))),
      receive_bytes(static_cast<std::size_t>(config.number("receive_buffer"))),
      clients_max(static_cast<std::size_t>(config.number("max_clients"))),
      tls_refresh(config.number("tls_refresh")),
      keepalive_interval(config.number("keepalive_interval")),
      keepalive_timeout(config.number("keepalive_timeout")),
      spin_budget(config.number("spin_budget")),
      linger(config.number("linger")) {
  const bool any_tls = !tls_ca.empty() || !tls_cert.empty() || !tls_key.empty() || !tls_server_name.empty();
  const bool remote_allowed = config.number("allow_remote_insecure") != 0;
  if (insecure && (any_tls || !allow_peers.empty())) {
    throw ConfigError(
        "insecure: true leaves no use for the tls_ options and allow_peers; remove the one or the others");
  }
  if (insecure && !address.local && !remote_allowed) {
    throw ConfigError("insecure: true on \"", address.target,
                      "\", which is no loopback address and no Unix socket: set tls_ca, tls_cert and tls_key, or "
                      "allow_remote_insecure: true if everybody on the way may read and send");
  }
  if (!insecure) {
    const auto needs = [](const std::string& value, const char* name) {
      if (value.empty()) {
        throw ConfigError(name,
                          " is missing: both ends need tls_ca, tls_cert and tls_key; insecure: true does without "
                          "on this machine");
      }
    };
    needs(tls_ca, "tls_ca");
    needs(tls_cert, "tls_cert");
    needs(tls_key, "tls_key");
  }
  const std::size_t record = record_bytes(frame_size_max);
  if (!config.given("send_buffer")) send_bytes = std::max(send_bytes, 2 * record);
  if (send_bytes < record) {
    throw ConfigError("send_buffer ", send_bytes, " holds no message of max_message_size ", config.max_message_size(),
                      "; it must be at least ", record);
  }
}

}  // namespace cdmf::ipc::grpc_transport
