// The specification's example 11.1, as it stands, and a main() that runs it.
#include <cstdint>
#include <cstring>
#include <iostream>
#include <thread>

// clang-format off
#include "ipc/ring_buffer.h"

using namespace cdmf::ipc;

// Define message type
struct Message {
    uint64_t id;
    uint32_t type;
    char data[256];
};

// Create ring buffer (capacity must be power of 2)
SPSCRingBuffer<Message, 4096> ring;

// Producer thread
void producer() {
    Message msg;
    msg.id = 12345;
    msg.type = 1;
    strcpy(msg.data, "Hello from producer");

    // Non-blocking push
    if (ring.try_push(msg)) {
        std::cout << "Message sent" << std::endl;
    } else {
        std::cout << "Ring buffer full" << std::endl;
    }
}

// Consumer thread
void consumer() {
    Message msg;

    // Non-blocking pop
    if (ring.try_pop(msg)) {
        std::cout << "Received: " << msg.data << std::endl;
    } else {
        std::cout << "Ring buffer empty" << std::endl;
    }
}
// clang-format on

int main() {
  consumer();
  std::thread(producer).join();
  std::thread(consumer).join();
}
