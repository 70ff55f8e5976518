// The suite as a program: gtest's options, and those of subject.h. `cdmf conform` runs it, one test at a time.
#include <csignal>
#include <string_view>

#include "conformance/harness.h"
#include "conformance/report.h"

int main(int argc, char** argv) {
  using namespace cdmf::ipc::conformance;
  std::signal(SIGPIPE, SIG_IGN);  // As a program that uses sockets does; a transport must not need it, nor mind it.
  const bool peer = argc >= 5 && std::string_view(argv[1]) == "--peer";
  if (!peer) ::testing::InitGoogleTest(&argc, argv);
  read_subject(argc, argv, GTEST_FLAG_GET(list_tests));
  if (peer) return play_peer(argv[2], argv[3], argv[4]);
  if (argc > 1) {
    std::fprintf(stderr, "cdmf-conformance: unknown word '%s'\n", argv[1]);
    return 2;
  }
  if (!subject().report.empty()) ::testing::UnitTest::GetInstance()->listeners().Append(make_report(subject().report));
  return RUN_ALL_TESTS();
}
