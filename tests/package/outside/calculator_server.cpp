// calculator_server FILE: adds and divides for whoever calls, over the transport that FILE names, until SIGTERM.
#include <csignal>
#include <iostream>
#include <string>

#include "calculator.h"
#include "ipc/host.h"
#include "ipc/service_stub.h"

using namespace cdmf::ipc;

namespace {

void require(const TransportResult<>& result) {
  if (result) return;
  std::cerr << "calculator_server: " << result.text() << '\n';
  std::exit(1);
}

Number divide(const Operands& operands) {
  if (operands.right == 0) throw ApplicationError(kDivisionByZero, "division by zero");
  return {operands.left / operands.right};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: calculator_server FILE\n";
    return 2;
  }
  // Blocked before any thread is made, so that only sigwait() below receives it.
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &stop, nullptr);

  auto host = Host::load(argv[1]);
  if (!host) {
    std::cerr << host.text() << '\n';
    return 1;
  }
  auto transport = host.value->create("calculator", Role::SERVER);
  if (!transport) {
    std::cerr << transport.text() << '\n';
    return 1;
  }
  ServiceStub stub(std::move(transport.value));
  require(stub.on<Operands, Number>("add", [](const Operands& o) { return Number{o.left + o.right}; }));
  require(stub.on<Operands, Number>("divide", divide));
  require(stub.on<std::string_view, std::string>(
      "shout", [](std::string_view text) { return std::string(text) + "!"; }, RunOn::POOL));
  require(stub.start());
  std::cout << "ready" << std::endl;

  int signal = 0;
  sigwait(&stop, &signal);
  require(stub.stop());
  std::cout << "answered " << stub.getStats().replies << " calls\n";
}
