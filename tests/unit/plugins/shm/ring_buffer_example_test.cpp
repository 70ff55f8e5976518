// The specification's example 11.1 as it is printed, plus the standard includes it leaves out, and a run of it.
#include <cstdint>
#include <cstring>
#include <iostream>

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

#include <gtest/gtest.h>

#include <string>
#include <thread>

namespace {

std::string output_of(void (*part)()) {
  testing::internal::CaptureStdout();
  std::thread(part).join();
  return testing::internal::GetCapturedStdout();
}

TEST(Example11_1, DoesWhatItSays) {
  EXPECT_EQ(output_of(consumer), "Ring buffer empty\n");
  EXPECT_EQ(output_of(producer), "Message sent\n");
  EXPECT_EQ(output_of(consumer), "Received: Hello from producer\n");
  EXPECT_EQ(output_of(consumer), "Ring buffer empty\n");
  while (ring.size() < ring.capacity()) ASSERT_TRUE(ring.try_push(Message{}));
  EXPECT_EQ(output_of(producer), "Ring buffer full\n");
}

}  // namespace
