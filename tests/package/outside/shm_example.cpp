// The specification's example 11.2, as it stands, and a main() that runs one side of it.
#include <chrono>
#include <iostream>
#include <string_view>
#include <thread>

// clang-format off
#include "ipc/shared_memory_transport.h"

using namespace cdmf::ipc;

// Server setup
void server() {
    TransportConfig config;
    config.endpoint = "/cdmf_shm_example";
    config.properties["shm_size"] = "4194304";           // 4 MB
    config.properties["ring_buffer_capacity"] = "4096";
    config.properties["create_shm"] = "true";            // Server creates
    config.properties["bidirectional"] = "true";

    SharedMemoryTransport transport;
    transport.init(config);
    transport.start();
    transport.connect();

    // Set callback for incoming messages
    transport.setMessageCallback([](MessagePtr msg) {
        std::cout << "Received message, size: " << msg->getPayloadSize() << std::endl;
        // Process message...
    });

    // Transport runs in background thread
    std::this_thread::sleep_for(std::chrono::seconds(60));
}

// Client setup
void client() {
    TransportConfig config;
    config.endpoint = "/cdmf_shm_example";
    config.properties["create_shm"] = "false";  // Client opens existing

    SharedMemoryTransport transport;
    transport.init(config);
    transport.start();
    transport.connect();

    // Send message
    Message msg(MessageType::REQUEST);
    msg.setPayload("Hello", 5);

    auto result = transport.send(msg);
    if (result.success()) {
        std::cout << "Message sent" << std::endl;
    }
}
// clang-format on

int main(int argc, char** argv) {
  const std::string_view side = argc > 1 ? argv[1] : "";
  if (side == "server") {
    server();
  } else if (side == "client") {
    client();
  } else {
    std::cerr << "usage: shm_example server|client\n";
    return 2;
  }
}
