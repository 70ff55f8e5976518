// `cdmf demo` as a newcomer runs it; some 25 seconds.
#include <gtest/gtest.h>

#include "program.h"

namespace cdmf::ipc::test {
namespace {

TEST(Demo, MovesAFileOverEveryTransportAndShowsEqualDigests) {
  const TestFolder folder;
  const auto demo = run(folder, {"demo"});
  ASSERT_EQ(demo.code, 0) << demo.errors << demo.output;
  std::size_t equal = 0;
  for (std::size_t at = 0; (at = demo.output.find("  equal\n", at)) != std::string::npos; ++at) ++equal;
#ifdef CDMF_TEST_GRPC
  EXPECT_EQ(equal, 4u) << demo.output;
  EXPECT_NE(demo.output.find("type: grpc"), std::string::npos) << demo.output;
#else
  EXPECT_EQ(equal, 3u) << demo.output;
#endif
  for (const char* change : {"type: loopback", "type: unix_socket", "type: shm"}) {
    EXPECT_NE(demo.output.find(change), std::string::npos) << demo.output;
  }
  EXPECT_EQ(demo.output.find("DIFFERENT"), std::string::npos) << demo.output;
}

}  // namespace
}  // namespace cdmf::ipc::test
