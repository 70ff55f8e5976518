#include "cli/fd_io.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "cli/command_error.h"

namespace cdmf::ipc::cli {
namespace {

class FdIo : public testing::Test {
 protected:
  void SetUp() override {
    signal(SIGPIPE, SIG_IGN);
    ASSERT_EQ(pipe2(ends_, O_CLOEXEC), 0);
  }
  void TearDown() override {
    close_end(0);
    close_end(1);
  }
  void close_end(int end) {
    if (ends_[end] >= 0) close(ends_[end]);
    ends_[end] = -1;
  }
  int ends_[2] = {-1, -1};
};

TEST_F(FdIo, WritesMoreThanAPipeHoldsAndReadsItWhole) {
  const std::string text(1'000'000, 'x');
  for (const bool nonblocking : {false, true}) {
    fcntl(ends_[1], F_SETFL, nonblocking ? O_NONBLOCK : 0);
    std::thread writer([&] { write_all(ends_[1], text, "the pipe"); });
    std::string received;
    std::vector<std::byte> piece(100'000);
    while (received.size() < text.size()) {
      const std::size_t size = read_available(ends_[0], piece, "the pipe");
      ASSERT_GT(size, 0u);
      received.append(reinterpret_cast<const char*>(piece.data()), size);
    }
    writer.join();
    EXPECT_EQ(received, text);
  }
}

TEST_F(FdIo, ReadReturnsWhatIsThereInsteadOfWaitingForMore) {
  write_all(ends_[1], "abc", "the pipe");
  write_all(ends_[1], "def", "the pipe");
  std::vector<std::byte> piece(100);
  EXPECT_EQ(read_available(ends_[0], piece, "the pipe"), 6u);
}

TEST_F(FdIo, ReadFillsTheBufferFromSeveralPieces) {
  write_all(ends_[1], "abcdef", "the pipe");
  std::vector<std::byte> piece(4);
  EXPECT_EQ(read_available(ends_[0], piece, "the pipe"), 4u);
  EXPECT_EQ(read_available(ends_[0], piece, "the pipe"), 2u);
}

TEST_F(FdIo, TheEndOfTheInputIsZero) {
  close_end(1);
  std::vector<std::byte> piece(4);
  EXPECT_TRUE(wait_readable(ends_[0], 0));
  EXPECT_EQ(read_available(ends_[0], piece, "the pipe"), 0u);
}

TEST_F(FdIo, WaitingForASilentInputEnds) { EXPECT_FALSE(wait_readable(ends_[0], 1)); }

TEST_F(FdIo, WritingToAClosedPipeSaysWhoIsGone) {
  close_end(0);
  try {
    write_all(ends_[1], "abc", "standard output");
    FAIL() << "nobody could read that";
  } catch (const CommandError& error) {
    EXPECT_NE(std::string(error.what()).find("standard output was closed"), std::string::npos) << error.what();
    EXPECT_EQ(error.exit_code(), kExitFailure);
  }
}

TEST_F(FdIo, WritingToAFullDiskIsAnError) {
  const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  if (full < 0) GTEST_SKIP() << "no /dev/full here";
  EXPECT_THROW(write_all(full, "abc", "the disk"), CommandError);
  close(full);
}

}  // namespace
}  // namespace cdmf::ipc::cli
