// host_application <type> <folder of plugins>...: a program that knows transports by name alone. Reads a configuration,
// sends a request from a client to a server over whatever the type is, and checks the answer.
#include <chrono>
#include <future>
#include <iostream>
#include <string>

#include "ipc/host.h"

namespace {

using namespace cdmf::ipc;

bool good(const char* what, const TransportResult<>& result) {
  if (!result.success()) std::cerr << what << ": " << result.text() << '\n';
  return result.success();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: host_application <type> <folder of plugins>...\n";
    return 2;
  }
  const std::string yaml = std::string("version: 1\n") +           //
                           "transports:\n" +                       //
                           "  main:\n" +                           //
                           "    type: " + argv[1] + "\n" +         //
                           "    endpoint: /outside_application\n"  //
                           "    max_message_size: 4KiB\n"          //
                           "    acme_packet: { prefix: elsewhere }\n";
  RegistryOptions options;
  options.search_paths.assign(argv + 2, argv + argc);
  options.use_environment = false;
  options.use_default_folders = false;
  auto host = Host::from_text("outside.yaml", yaml, options);
  if (!host.success()) {
    std::cerr << host.text() << '\n';
    return 1;
  }

  auto server = host.value->create("main", Role::SERVER);
  auto client = host.value->create("main", Role::CLIENT);
  if (!server.success() || !client.success()) {
    std::cerr << server.text() << '\n' << client.text() << '\n';
    return 1;
  }
  server.value->setViewCallback([&](const MessageView& request) {
    Message answer(MessageType::RESPONSE);
    answer.setPayload(std::string(request.text()) + ", " + std::string(request.subject));
    good("reply", server.value->reply(request, answer.view()));
  });
  std::promise<std::string> answered;
  client.value->setMessageCallback(
      [&](MessagePtr answer) { answered.set_value(std::string(answer->getPayloadText())); });

  for (Transport* transport : {server.value.get(), client.value.get()}) {
    if (!good("start", transport->start()) || !good("connect", transport->connect())) return 1;
  }
  Message request(MessageType::REQUEST);
  request.setSubject("world");
  request.setPayload("hello");
  if (!good("send", client.value->send(request))) return 1;

  auto answer = answered.get_future();
  if (answer.wait_for(std::chrono::seconds(20)) != std::future_status::ready) {
    std::cerr << "no answer\n";
    return 1;
  }
  const std::string text = answer.get();
  std::cout << text << '\n';
  return text == "hello, world" ? 0 : 1;
}
