// cdmf call: one call of a service, its reply on standard output.
#include <fcntl.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/fd_io.h"
#include "cli/open_transport.h"
#include "ipc/property.h"
#include "ipc/service_proxy.h"

namespace cdmf::ipc::cli {
namespace {

/// All of a descriptor, or one byte more than a request may have.
std::vector<std::byte> read_request(int fd, std::uint64_t bytes_max, const std::string& what) {
  std::vector<std::byte> bytes;
  for (std::size_t size = 0;;) {
    bytes.resize(std::min<std::uint64_t>(size + (std::size_t{64} << 10), bytes_max + 1));
    const std::size_t got = read_available(fd, std::span(bytes).subspan(size), what);
    size += got;
    if (got != 0 && size <= bytes_max) continue;
    bytes.resize(size);
    return bytes;
  }
}

std::vector<std::byte> request_of(const CallArguments& arguments, std::uint64_t bytes_max) {
  if (arguments.data == "-") return read_request(STDIN_FILENO, bytes_max, "standard input");
  if (!arguments.data.starts_with('@')) {
    const auto bytes = PayloadView(arguments.data).bytes();
    return {bytes.begin(), bytes.end()};
  }
  const std::string path = arguments.data.substr(1);
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw CommandError("cannot open '" + path + "'; '@' before DATA means a file, '-' reads standard input");
  auto bytes = read_request(fd, bytes_max, path);
  ::close(fd);
  return bytes;
}

}  // namespace

int command_call(const ProgramOptions& program, const CallArguments& arguments) {
  const ParsedValue timeout = parse_duration(arguments.timeout);
  if (!timeout.problem.empty() || timeout.number == 0) {
    throw UsageError("--timeout '" + arguments.timeout +
                     "': " + (timeout.problem.empty() ? "a call needs some time" : timeout.problem));
  }
  const auto host = load_host(program, arguments.file, LogLevel::warning);
  const TransportEntry& entry = choose_entry(*host, arguments.file, arguments.transport);
  require_two_processes(*host, entry);
  ServiceProxy proxy(
      open_transport(*host, entry, Role::CLIENT, [](TransportConfig& config) { config.auto_reconnect = false; }));
  const auto request = request_of(arguments, proxy.transport().getInfo().max_message_size);
  const auto reply =
      proxy.call(arguments.method, request, std::chrono::nanoseconds(static_cast<std::int64_t>(timeout.number)));
  if (!reply) throw CommandError(entry.name + ": " + arguments.method + ": " + reply.text());
  write_all(STDOUT_FILENO, reply.value, "standard output");
  if (isatty(STDOUT_FILENO) != 0) write_all(STDOUT_FILENO, std::string_view("\n"), "standard output");
  return kExitOk;
}

}  // namespace cdmf::ipc::cli
