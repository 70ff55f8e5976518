#include "cli/yaml_word.h"

#include <gtest/gtest.h>

#include "cli/command_error.h"

namespace cdmf::ipc::cli {
namespace {

constexpr const char* kYaml =
    "version: 1\n"
    "# type: not this one\n"
    "transports:\n"
    "  main:\n"
    "    type: loopback    # the only word to change\n"
    "    endpoint: /cdmf_demo\n"
    "    unix_socket: { socket_type: STREAM }\n";

TEST(YamlWord, ReplacesTheValueAndLeavesEveryOtherByte) {
  std::string expected = kYaml;
  expected.replace(expected.find("loopback"), 8, "shm");
  EXPECT_EQ(replace_value(kYaml, "type", "shm"), expected);
}

TEST(YamlWord, FindsValuesAtTheEndOfALineAndOfTheText) {
  EXPECT_EQ(value_of(kYaml, "endpoint"), "/cdmf_demo");
  EXPECT_EQ(value_of("type: shm", "type"), "shm");
  EXPECT_EQ(replace_value("type: shm", "type", "loopback"), "type: loopback");
}

TEST(YamlWord, AKeyWithoutAValueOrAsPartOfAnotherIsNotTheKey) {
  EXPECT_THROW(static_cast<void>(value_of("types: shm\n", "type")), CommandError);
  EXPECT_THROW(static_cast<void>(value_of("type:\n", "type")), CommandError);
  EXPECT_THROW(static_cast<void>(value_of("type:   # later\n", "type")), CommandError);
  EXPECT_THROW(static_cast<void>(value_of(kYaml, "missing")), CommandError);
}

}  // namespace
}  // namespace cdmf::ipc::cli
