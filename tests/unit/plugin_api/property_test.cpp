// The syntax of option values, and their check against a plugin's table.
#include "ipc/property.h"

#include <gtest/gtest.h>

#include <limits>

#include "ipc/plugin.h"

namespace cdmf::ipc {
namespace {

constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();

struct Case {
  ParsedValue (*parse)(std::string_view);
  const char* text;
  std::optional<std::int64_t> number;  // Nothing: refused.
  const char* reason = "";             // What the refusal must say.
};

TEST(PropertySyntax, TakesWhatIsPlainAndRefusesWhatCouldBeReadInTwoWays) {
  const Case cases[] = {
      {parse_bool, "true", 1},
      {parse_bool, "false", 0},
      {parse_bool, "yes", {}, "true or false"},
      {parse_bool, "on", {}, "true or false"},
      {parse_bool, "True", {}, "true or false"},
      {parse_bool, "1", {}, "true or false"},
      {parse_bool, "", {}, "nothing"},
      {parse_bool, "true ", {}, "true or false"},

      {parse_integer, "0", 0},
      {parse_integer, "-1", -1},
      {parse_integer, "42", 42},
      {parse_integer, "9223372036854775807", kMax},
      {parse_integer, "-9223372036854775807", -kMax},
      {parse_integer, "9223372036854775808", {}, "too large"},
      {parse_integer, "18446744073709551616", {}, "too large"},
      {parse_integer, "99999999999999999999999999", {}, "too large"},
      {parse_integer, "010", {}, "octal"},
      {parse_integer, "-010", {}, "octal"},
      {parse_integer, "00", {}, "octal"},
      {parse_integer, "0x10", {}, "decimal integer"},
      {parse_integer, "0o10", {}, "decimal integer"},
      {parse_integer, "1e3", {}, "decimal integer"},
      {parse_integer, "1.0", {}, "decimal integer"},
      {parse_integer, "1_000", {}, "decimal integer"},
      {parse_integer, "1,000", {}, "decimal integer"},
      {parse_integer, "+5", {}, "decimal integer"},
      {parse_integer, "--5", {}, "decimal integer"},
      {parse_integer, "-", {}, "decimal integer"},
      {parse_integer, " 5", {}, "decimal integer"},
      {parse_integer, "5 ", {}, "decimal integer"},
      {parse_integer, "five", {}, "decimal integer"},
      {parse_integer, "64KiB", {}, "decimal integer"},
      {parse_integer, "", {}, "nothing"},

      {parse_size, "0", 0},
      {parse_size, "1", 1},
      {parse_size, "4096", 4096},
      {parse_size, "64KiB", 64 * 1024},
      {parse_size, "1MiB", 1 << 20},
      {parse_size, "2GiB", std::int64_t{2} << 30},
      {parse_size, "1KB", 1000},
      {parse_size, "1MB", 1'000'000},
      {parse_size, "1GB", 1'000'000'000},
      {parse_size, "8589934591GiB", std::int64_t{8589934591} << 30},
      {parse_size, "8589934592GiB", {}, "too large"},
      {parse_size, "64 KiB", {}, "a size such as"},
      {parse_size, "64kib", {}, "a size such as"},
      {parse_size, "64k", {}, "a size such as"},
      {parse_size, "64K", {}, "a size such as"},
      {parse_size, "64B", {}, "a size such as"},
      {parse_size, "KiB", {}, "a size such as"},
      {parse_size, "1.5MiB", {}, "a size such as"},
      {parse_size, "-1", {}, "a size such as"},
      {parse_size, "064KiB", {}, "octal"},
      {parse_size, "64 apples", {}, "\"64 apples\""},

      {parse_duration, "0", 0},
      {parse_duration, "0s", 0},
      {parse_duration, "10ns", 10},
      {parse_duration, "50us", 50'000},
      {parse_duration, "10ms", 10'000'000},
      {parse_duration, "3s", 3'000'000'000},
      {parse_duration, "2min", 120'000'000'000},
      {parse_duration, "1h", 3'600'000'000'000},
      {parse_duration, "10", {}, "no unit"},
      {parse_duration, "10 ms", {}, "a duration such as"},
      {parse_duration, "10MS", {}, "a duration such as"},
      {parse_duration, "1m", {}, "a duration such as"},
      {parse_duration, "1s500ms", {}, "a duration such as"},
      {parse_duration, "-1s", {}, "a duration such as"},
      {parse_duration, "2562048h", {}, "too large"},
      {parse_duration, "010ms", {}, "octal"},
      {parse_duration, "for ever", {}, "a duration such as"},
  };
  for (const Case& each : cases) {
    const ParsedValue value = each.parse(each.text);
    if (each.number) {
      EXPECT_EQ(value.problem, "") << each.text;
      EXPECT_EQ(value.number, *each.number) << each.text;
    } else {
      EXPECT_NE(value.problem, "") << each.text;
      EXPECT_NE(value.problem.find(each.reason), std::string::npos) << each.text << ": " << value.problem;
    }
  }
}

TEST(PropertySyntax, WritesSizesAndDurationsThatItReadsBack) {
  for (const std::uint64_t bytes : {0ull, 1ull, 1500ull, 4096ull, 65536ull, 1048576ull, 1073741824ull, 1048577ull}) {
    EXPECT_EQ(parse_size(format_size(bytes)).number, static_cast<std::int64_t>(bytes)) << format_size(bytes);
  }
  EXPECT_EQ(format_size(65536), "64KiB");
  EXPECT_EQ(format_size(1500), "1500");
  for (const std::uint64_t ns : {0ull, 1ull, 1500ull, 50'000ull, 3'000'000'000ull, 86'400'000'000'000ull}) {
    EXPECT_EQ(parse_duration(format_duration(ns)).number, static_cast<std::int64_t>(ns)) << format_duration(ns);
  }
  EXPECT_EQ(format_duration(3'000'000'000), "3s");
}

// ---- Against a table ------------------------------------------------------------------------------------------------

constexpr const char* kColours[] = {"red", "green", nullptr};
constexpr cdmf_property kTable[] = {
    int_property("count", "8", "1", "1024", "How many.", CDMF_PROPERTY_POWER_OF_TWO),
    int_property("offset", "0", "-5", "5", "Signed."),
    size_property("size", "64KiB", "4KiB", "1MiB", "How large."),
    duration_property("pause", "10ms", "1us", "1s", "How long."),
    choice_property("colour", "green", kColours, "Which."),
    bool_property("server_side", nullptr, "Role.", CDMF_PROPERTY_ROLE),
    text_property("path", nullptr, "Where."),
    text_property("secret", nullptr, "Needed.", CDMF_PROPERTY_REQUIRED),
};
cdmf_plugin table_plugin() {
  cdmf_plugin plugin{};
  plugin.type = "table";
  plugin.properties = kTable;
  plugin.property_count = std::size(kTable);
  return plugin;
}
std::string problem_of(const char* name, std::string_view text) {
  const cdmf_plugin plugin = table_plugin();
  return check_value(*find_property(plugin, name), text).problem;
}

TEST(PropertyTable, LimitsAreInclusiveAndNamed) {
  EXPECT_EQ(problem_of("offset", "-5"), "");
  EXPECT_EQ(problem_of("offset", "5"), "");
  EXPECT_NE(problem_of("offset", "-6").find("minimum -5"), std::string::npos);
  EXPECT_NE(problem_of("offset", "6").find("maximum 5"), std::string::npos);
  EXPECT_EQ(problem_of("size", "4KiB"), "");
  EXPECT_EQ(problem_of("size", "1MiB"), "");
  EXPECT_NE(problem_of("size", "4095").find("minimum 4KiB"), std::string::npos);
  EXPECT_NE(problem_of("size", "1048577").find("maximum 1MiB"), std::string::npos);
  EXPECT_EQ(problem_of("pause", "1us"), "");
  EXPECT_NE(problem_of("pause", "999ns").find("minimum 1us"), std::string::npos);
  EXPECT_NE(problem_of("pause", "1001ms").find("maximum 1s"), std::string::npos);
}

TEST(PropertyTable, PowersOfTwoAndChoicesAreChecked) {
  EXPECT_EQ(problem_of("count", "1"), "");
  EXPECT_EQ(problem_of("count", "1024"), "");
  EXPECT_NE(problem_of("count", "1000").find("power of two"), std::string::npos);
  EXPECT_EQ(problem_of("colour", "red"), "");
  EXPECT_NE(problem_of("colour", "Red").find("red | green"), std::string::npos);
  EXPECT_NE(problem_of("colour", ""), "");
}

TEST(PropertyTable, ATextWithANulIsRefusedBecauseADriverWouldSeeHalfOfIt) {
  EXPECT_EQ(problem_of("path", "/tmp/a b"), "");
  EXPECT_NE(problem_of("path", std::string_view("/tmp\0/x", 7)).find("NUL"), std::string::npos);
}

TEST(PropertyTable, EveryRowGetsItsValueOrItsDefaultInOrder) {
  const Settings settings = make_settings(table_plugin(), {{"secret", "s"}, {"count", "16"}, {"colour", "red"}});
  EXPECT_TRUE(settings.problems.empty()) << settings.problems.front();
  ASSERT_EQ(settings.rows.size(), std::size(kTable));
  for (std::size_t i = 0; i < std::size(kTable); ++i) EXPECT_STREQ(settings.rows[i].name, kTable[i].name);
  EXPECT_EQ(settings.rows[0].number, 16);
  EXPECT_EQ(settings.rows[0].given, 1u);
  EXPECT_EQ(settings.rows[2].number, 65536);
  EXPECT_STREQ(settings.rows[2].text, "64KiB");
  EXPECT_EQ(settings.rows[2].given, 0u);
  EXPECT_EQ(settings.rows[4].number, 0);
  EXPECT_STREQ(settings.rows[6].text, "");
  EXPECT_FALSE(settings.server.has_value());
}

TEST(PropertyTable, TellsAllProblemsAtOnce) {
  const Settings settings = make_settings(table_plugin(), {{"count", "3"}, {"collour", "red"}, {"size", "1"}});
  ASSERT_EQ(settings.problems.size(), 4u);  // Unknown key, two bad values, the missing required one.
  std::string all;
  for (const std::string& each : settings.problems) all += each + '\n';
  EXPECT_NE(all.find("collour: unknown property of type table"), std::string::npos) << all;
  EXPECT_NE(all.find("count: 3 is not a power of two; 2 and 4 are"), std::string::npos) << all;
  EXPECT_NE(all.find("size: 1 is below the minimum 4KiB"), std::string::npos) << all;
  EXPECT_NE(all.find("secret: required"), std::string::npos) << all;
}

TEST(PropertyTable, ARolePropertySaysTheSideOnlyWhenGiven) {
  EXPECT_EQ(make_settings(table_plugin(), {{"secret", ""}, {"server_side", "true"}}).server, true);
  EXPECT_EQ(make_settings(table_plugin(), {{"secret", ""}, {"server_side", "false"}}).server, false);
  EXPECT_EQ(make_settings(table_plugin(), {{"secret", ""}}).server, std::nullopt);
}

// ---- The keys of every transport ------------------------------------------------------------------------------------

TEST(CommonProperties, DefaultsAreThoseOfTransportConfig) {
  const TransportConfig fresh;
  TransportConfig config;
  config.max_message_size = 1;
  config.send_timeout = config.receive_timeout = config.connect_timeout = std::chrono::nanoseconds(1);
  config.auto_reconnect = !fresh.auto_reconnect;
  for (const cdmf_property& row : common_properties()) {
    if (row.default_text == nullptr) {
      EXPECT_STREQ(row.name, "role");  // The only one that is the program's to say.
      continue;
    }
    EXPECT_EQ(set_common_property(config, row, row.default_text), "") << row.name;
  }
  EXPECT_EQ(config.max_message_size, fresh.max_message_size);
  EXPECT_EQ(config.send_timeout, fresh.send_timeout);
  EXPECT_EQ(config.receive_timeout, fresh.receive_timeout);
  EXPECT_EQ(config.connect_timeout, fresh.connect_timeout);
  EXPECT_EQ(config.auto_reconnect, fresh.auto_reconnect);
}

TEST(CommonProperties, EachSetsItsOwnFieldAndRefusesNonsense) {
  TransportConfig config;
  const auto set = [&](std::string_view name, std::string_view text) {
    for (const cdmf_property& row : common_properties()) {
      if (name == row.name) return set_common_property(config, row, text);
    }
    return std::string("no such row");
  };
  EXPECT_EQ(set("max_message_size", "1MiB"), "");
  EXPECT_EQ(config.max_message_size, 1u << 20);
  EXPECT_EQ(set("send_timeout", "1ms"), "");
  EXPECT_EQ(config.send_timeout, std::chrono::milliseconds(1));
  EXPECT_EQ(set("receive_timeout", "2ms"), "");
  EXPECT_EQ(config.receive_timeout, std::chrono::milliseconds(2));
  EXPECT_EQ(set("connect_timeout", "0"), "");
  EXPECT_EQ(config.connect_timeout, std::chrono::milliseconds(0));
  EXPECT_EQ(set("auto_reconnect", "false"), "");
  EXPECT_FALSE(config.auto_reconnect);
  EXPECT_EQ(set("role", "server"), "");
  EXPECT_EQ(config.role, Role::SERVER);
  EXPECT_NE(set("role", "Server"), "");
  EXPECT_NE(set("max_message_size", "0"), "");
  EXPECT_NE(set("max_message_size", "2GiB"), "");
  EXPECT_NE(set("send_timeout", "3"), "");
  EXPECT_NE(set("auto_reconnect", "yes"), "");
  EXPECT_EQ(config.max_message_size, 1u << 20) << "a refused value changed the field";
}

}  // namespace
}  // namespace cdmf::ipc
