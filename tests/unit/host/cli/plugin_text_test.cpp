#include "cli/plugin_text.h"

#include <gtest/gtest.h>

namespace cdmf::ipc::cli {
namespace {

const char* const kWays[] = {"spin", "futex", nullptr};

cdmf_property property(std::uint32_t type, const char* name, const char* default_text) {
  cdmf_property row{};
  row.struct_size = sizeof row;
  row.type = type;
  row.name = name;
  row.default_text = default_text;
  row.summary = "What it means.";
  return row;
}

class PluginText : public testing::Test {
 protected:
  PluginText() {
    rows_[0] = property(CDMF_PROPERTY_CHOICE, "wait", "spin");
    rows_[0].choices = kWays;
    rows_[1] = property(CDMF_PROPERTY_INT, "capacity", "4096");
    rows_[1].flags = CDMF_PROPERTY_POWER_OF_TWO;
    rows_[1].minimum = "64";
    rows_[1].maximum = "65536";
    rows_[2] = property(CDMF_PROPERTY_TEXT, "group", nullptr);
    rows_[2].flags = CDMF_PROPERTY_REQUIRED;
    plugin_.type = "example";
    plugin_.version = "1.2.3";
    plugin_.vendor = "Acme";
    plugin_.license = "MIT";
    plugin_.summary = "an example";
    plugin_.abi_major = 1;
    plugin_.abi_minor = 4;
    plugin_.min_host_minor = 2;
    plugin_.capabilities = CDMF_CAP_HOLD;
    plugin_.max_message_size_limit = 1 << 20;
    plugin_.properties = rows_;
    plugin_.property_count = 3;
    build_.flags = CDMF_BUILD_TSAN;
    build_.compiler = "GNU 12.2.0";
    build_.language = "C11";
    build_.standard_library = "";
    plugin_.build = &build_;
  }
  cdmf_property rows_[3];
  cdmf_build_info build_{};
  cdmf_plugin plugin_{};
};

void expect_all(const std::string& text, const std::vector<std::string>& parts) {
  for (const auto& part : parts) EXPECT_NE(text.find(part), std::string::npos) << "no '" << part << "' in\n" << text;
}

TEST_F(PluginText, ManualHasEveryOptionWithTypeValuesDefaultAndMeaning) {
  expect_all(options_text(plugin_, "text"),
             {"example: an example", "wait\n", "spin | futex", "default: spin", "What it means.", "a power of two",
              "64 to 65536", "default: 4096", "group\n", "default: required"});
}

TEST_F(PluginText, MarkdownTableHasOneRowPerOptionAndHidesBars) {
  const std::string text = options_text(plugin_, "markdown");
  expect_all(text, {"# example", "| `wait` |", "spin \\| futex", "| `capacity` |", "| `group` |"});
}

TEST_F(PluginText, YamlSectionHoldsDefaultsAndLeavesOutWhatHasNone) {
  const std::string text = options_text(plugin_, "yaml");
  expect_all(text, {"example:\n", "\n  wait: spin\n", "\n  capacity: 4096\n", "\n  # group: (required)\n"});
}

TEST_F(PluginText, APluginWithoutOptionsSaysSoInEveryFormat) {
  plugin_.property_count = 0;
  expect_all(options_text(plugin_, "text"), {"no options"});
  expect_all(options_text(plugin_, "markdown"), {"no options"});
  expect_all(options_text(plugin_, "yaml"), {"example: {}"});
}

TEST_F(PluginText, DescriptorShowsEveryField) {
  expect_all(
      descriptor_text(plugin_, "/opt/x.so"),
      {"/opt/x.so", "1.2.3", "Acme", "MIT", "1.4, works with hosts from 1.2", "messages can be held", "1MiB",
       "GNU 12.2.0", "C11", "standard library:    none", "sanitizers:          thread", "3: cdmf plugins doc example"});
}

TEST(CapabilitiesText, NamesKnownBitsAndNumbersUnknownOnes) {
  EXPECT_EQ(capabilities_text(0), "none");
  EXPECT_EQ(capabilities_text(CDMF_CAP_INTER_PROCESS | CDMF_CAP_MANY_PEERS), "many peers, between processes");
  EXPECT_EQ(capabilities_text(std::uint64_t{1} << 40), "bit 40");
}

TEST(TableText, AlignsColumnsWithoutTrailingBlanks) {
  EXPECT_EQ(table_text({{"A", "LONG", "C"}, {"aaaa", "b", "c"}, {"x", "", ""}}), "A     LONG  C\naaaa  b     c\nx\n");
}

}  // namespace
}  // namespace cdmf::ipc::cli
