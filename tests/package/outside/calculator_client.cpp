// calculator_client FILE: has a few things calculated, over the transport that FILE names.
#include <iostream>

#include "calculator.h"
#include "ipc/host.h"
#include "ipc/service_proxy.h"

using namespace cdmf::ipc;
using namespace std::chrono_literals;

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: calculator_client FILE\n";
    return 2;
  }
  auto host = Host::load(argv[1]);
  if (!host) {
    std::cerr << host.text() << '\n';
    return 1;
  }
  auto transport = host.value->create("calculator", Role::CLIENT);
  if (!transport) {
    std::cerr << transport.text() << '\n';
    return 1;
  }
  ServiceProxy calculator(std::move(transport.value));
  if (const auto started = calculator.start(); !started) {
    std::cerr << "calculator_client: " << started.text() << '\n';
    return 1;
  }

  // Waits for the answer, at most as long as is said.
  const auto sum = calculator.call<Number>("add", Operands{40, 2}, 1s);
  if (!sum) {
    std::cerr << "add: " << sum.text() << '\n';
    return 1;
  }
  std::cout << "40 + 2 = " << sum.value.value << '\n';

  // The service's own errors have its own codes.
  const auto none = calculator.call<Number>("divide", Operands{1, 0});
  if (none.status == CallStatus::APPLICATION_ERROR && none.code == kDivisionByZero) {
    std::cout << "1 / 0: " << none.error_message << '\n';
  }

  // Several calls at once.
  auto first = calculator.callAsync<Number>("divide", Operands{84, 2});
  auto second = calculator.callAsync<std::string>("shout", std::string("done"));
  std::cout << "84 / 2 = " << first.get().value.value << '\n' << second.get().value << '\n';
  return calculator.getStats().in_flight == 0 ? 0 : 1;
}
