#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <exception>

#include "calls/service.h"

int main(int argc, char** argv) {
  using namespace cdmf::ipc;
  testing::InitGoogleTest(&argc, argv);
  std::string serve;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto value = word.substr(word.find('=') + 1);
    if (word.starts_with("--type=")) calls::subject().type = value;
    if (word.starts_with("--property=")) calls::subject().properties.push_back(value);
    if (word == "--receive=poll") calls::subject().receive = Receive::POLL;
    if (word.starts_with("--serve=")) serve = value;
  }
  try {
    return serve.empty() ? RUN_ALL_TESTS() : calls::serve_in_child(serve);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
