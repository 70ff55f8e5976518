#include <gtest/gtest.h>

#include <chrono>
#include <ostream>
#include <string>
#include <vector>

#include "ipc/host_config.h"
#include "ipc/plugin.h"
#include "unit/host/temp_folder.h"

namespace cdmf::ipc {
namespace {

using namespace std::chrono_literals;
using Lines = std::vector<std::string>;

// ---- Two types that need no file
// ----------------------------------------------------------------------------------------

constexpr const char* kModes[] = {"calm", "eager", nullptr};
constexpr cdmf_property kAlphaRows[] = {
    int_property("depth", "8", "1", "1024", "How many at once.", CDMF_PROPERTY_POWER_OF_TWO),
    choice_property("mode", "calm", kModes, "How it waits."),
    size_property("room", "4KiB", "1KiB", "1MiB", "Bytes in flight."),
    bool_property("listens", nullptr, "Whether this side listens.", CDMF_PROPERTY_ROLE),
};
constexpr cdmf_property kBetaRows[] = {
    text_property("file", nullptr, "Where it keeps its notes.", CDMF_PROPERTY_REQUIRED),
    duration_property("patience", "1s", "0", "1min", "How long it waits."),
};

cdmf_status no_driver(const cdmf_host*, const cdmf_config*, cdmf_driver*, cdmf_error*) { return CDMF_UNSUPPORTED; }

cdmf_plugin make_descriptor(const char* type, std::span<const cdmf_property> rows) {
  return {sizeof(cdmf_plugin),
          CDMF_PLUGIN_MAGIC,
          CDMF_ABI_MAJOR,
          CDMF_ABI_MINOR,
          0,
          0,
          &sdk::kBuildInfo,
          type,
          "1.0.0",
          "cdmf tests",
          "none",
          "For tests.",
          0,
          1 << 20,
          rows.data(),
          rows.size(),
          &no_driver,
          &sdk::no_extension};
}

const cdmf_plugin kAlpha = make_descriptor("alpha", kAlphaRows);
const cdmf_plugin kBeta = make_descriptor("beta", kBetaRows);

RegistryOptions options() {
  RegistryOptions options;
  options.use_environment = false;
  options.use_default_folders = false;
  options.builtin = {&kAlpha, &kBeta};
  return options;
}

LoadedConfig read(std::string_view text) { return read_config_text("c.yaml", text, options()); }

// ---- What is right
// --------------------------------------------------------------------------------------------------------

TEST(ConfigReader, GivesEveryKeyItsPlace) {
  const LoadedConfig loaded = read(
      "version: 1\n"
      "plugins: { search_paths: [/opt/a, /opt/b], security: warn }\n"
      "transports:\n"
      "  main:\n"
      "    type: alpha\n"
      "    endpoint: /orders\n"
      "    max_message_size: 128KiB\n"
      "    send_timeout: 10ms\n"
      "    receive_timeout: 2s\n"
      "    connect_timeout: 0\n"
      "    auto_reconnect: false\n"
      "    role: server\n"
      "    alpha: { depth: 16, mode: eager }\n"
      "    beta: { file: /tmp/x, patience: 5ms }\n"
      "  side-2: { type: beta, endpoint: 'b', beta: { file: y } }\n");
  ASSERT_EQ(loaded.problems, Lines{});
  EXPECT_EQ(loaded.config.version, 1);
  EXPECT_EQ(loaded.config.plugins.search_paths, (Lines{"/opt/a", "/opt/b"}));
  EXPECT_EQ(loaded.config.plugins.security, PluginSecurity::WARN);
  ASSERT_EQ(loaded.config.transports.size(), 2U);
  const TransportEntry& main = loaded.config.transports[0];
  EXPECT_EQ(main.name, "main");
  EXPECT_EQ(main.type, "alpha");
  EXPECT_EQ(main.place, "c.yaml:4:3");
  EXPECT_EQ(main.config.name, "main");
  EXPECT_EQ(main.config.endpoint, "/orders");
  EXPECT_EQ(main.config.max_message_size, 128U * 1024);
  EXPECT_EQ(main.config.send_timeout, 10ms);
  EXPECT_EQ(main.config.receive_timeout, 2s);
  EXPECT_EQ(main.config.connect_timeout, 0ns);
  EXPECT_FALSE(main.config.auto_reconnect);
  EXPECT_EQ(main.config.role, Role::SERVER);
  // Of the sections only the selected one counts; `role` is there so that it wins over the program's choice.
  const std::map<std::string, std::string> expected = {{"depth", "16"}, {"mode", "eager"}, {"role", "server"}};
  EXPECT_EQ(main.config.properties, expected);
  EXPECT_EQ(loaded.config.transports[1].config.properties.at("file"), "y");
  EXPECT_EQ(loaded.config.find("side-2"), &loaded.config.transports[1]);
  EXPECT_EQ(loaded.config.find("nobody"), nullptr);
  EXPECT_EQ(loaded.config.find(""), nullptr) << "two entries: an empty name says nothing";
  EXPECT_EQ(loaded.registry->searched_folders(), (Lines{"/opt/a (does not exist)", "/opt/b (does not exist)"}));
}

TEST(ConfigReader, LeavesDefaultsAlone) {
  const LoadedConfig loaded = read("version: 1\ntransports: { main: { type: alpha, endpoint: e } }\n");
  ASSERT_EQ(loaded.problems, Lines{});
  const TransportConfig fresh;
  const TransportConfig& config = loaded.config.transports[0].config;
  EXPECT_EQ(config.max_message_size, fresh.max_message_size);
  EXPECT_EQ(config.send_timeout, fresh.send_timeout);
  EXPECT_EQ(config.connect_timeout, fresh.connect_timeout);
  EXPECT_EQ(config.auto_reconnect, fresh.auto_reconnect);
  EXPECT_EQ(config.role, std::nullopt);
  EXPECT_TRUE(config.properties.empty());
  EXPECT_EQ(loaded.config.find(""), &loaded.config.transports[0]);
}

TEST(ConfigReader, SwitchesTypesByOneWord) {
  const std::string text =
      "version: 1\n"
      "transports:\n"
      "  main:\n"
      "    type: alpha\n"
      "    endpoint: e\n"
      "    alpha: { depth: 4 }\n"
      "    beta: { file: f }\n";
  std::string other = text;
  other.replace(other.find("type: alpha"), 11, "type: beta");
  const LoadedConfig alpha = read(text);
  const LoadedConfig beta = read(other);
  ASSERT_EQ(alpha.problems, Lines{});
  ASSERT_EQ(beta.problems, Lines{});
  EXPECT_EQ(alpha.config.transports[0].config.properties.count("depth"), 1U);
  EXPECT_EQ(beta.config.transports[0].config.properties.count("file"), 1U);
}

TEST(ConfigReader, TakesRelativeSearchPathsFromTheFolderOfTheFile) {
  const TempFolder temp;
  const std::string file = temp.write("c.yaml",
                                      "version: 1\n"
                                      "plugins: { search_paths: [plugins, ../x, /abs] }\n"
                                      "transports: { main: { type: alpha, endpoint: e } }\n");
  const LoadedConfig loaded = read_config_file(file, options());
  ASSERT_EQ(loaded.problems, Lines{});
  const std::string above = std::filesystem::path(temp.path()).parent_path().string();
  EXPECT_EQ(loaded.config.plugins.search_paths, (Lines{temp.path("plugins"), above + "/x", "/abs"}));
}

TEST(ConfigReader, HasARegistryEvenWhenThereIsNoFile) {
  const LoadedConfig loaded = read_config_file("/nowhere/c.yaml", options());
  ASSERT_EQ(loaded.problems.size(), 1U);
  EXPECT_EQ(loaded.problems[0].substr(0, 33), "/nowhere/c.yaml: cannot be opened");
  EXPECT_EQ(loaded.registry->types(), (Lines{"alpha", "beta"}));
}

TEST(ConfigReader, ReportsABadSearchPathOfTheProgramOnce) {
  RegistryOptions bad = options();
  bad.search_paths = {"relative"};
  const LoadedConfig loaded = read_config_text(
      "c.yaml", "version: 1\ntransports: { a: { type: alpha, endpoint: e }, b: { type: alpha, endpoint: f } }\n", bad);
  EXPECT_EQ(loaded.problems,
            Lines{"c.yaml: plugins.search_paths names \"relative\", which is not absolute; start it with '/'"});
}

// ---- What is wrong
// ----------------------------------------------------------------------------------------------------------

TEST(ConfigReader, SaysEverythingAtOnceInTheOrderOfTheFile) {
  const LoadedConfig loaded = read(
      "version: 2\n"
      "transport: {}\n"
      "transports:\n"
      "  main:\n"
      "    type: alhpa\n"
      "    endpoint: ''\n"
      "    send_timeout: 10\n"
      "    send_timeout: 20ms\n"
      "    depth: 4\n"
      "    alpha: { depht: 4, depth: 010, mode: lazy }\n"
      "  other:\n"
      "    type: beta\n"
      "    max_mesage_size: 4KiB\n");
  EXPECT_EQ(
      loaded.problems,
      (Lines{"c.yaml:1:10: version: '2' is not a version that this program reads; write 'version: 1'",
             "c.yaml:2:1: transport: unknown key; did you mean 'transports'?",
             "c.yaml:5:11: transports.main.type: no plugin of type \"alhpa\"; did you mean \"alpha\"?; "
             "libcdmf_alhpa.so was looked for in no folder: set CDMF_PLUGIN_PATH or plugins.search_paths",
             "c.yaml:6:15: transports.main.endpoint: is empty; a logical name such as /orders",
             "c.yaml:7:19: transports.main.send_timeout: \"10\" has no unit; expected a duration such as 50us, 10ms or "
             "3s; How long send() waits for room before TIMEOUT; 0: BUFFER_FULL at once.",
             "c.yaml:8:5: transports.main.send_timeout: is given twice, first at 7:5; keep one of the two",
             "c.yaml:9:5: transports.main.depth: unknown key; it belongs under 'alpha'",
             "c.yaml:10:14: transports.main.alpha.depht: unknown option of type alpha; did you mean 'depth'?",
             "c.yaml:10:31: transports.main.alpha.depth: \"010\" starts with 0, which YAML readers take for octal; "
             "drop it; How many at once.",
             "c.yaml:10:42: transports.main.alpha.mode: expected one of calm | eager, got \"lazy\"; How it waits.",
             "c.yaml:11:3: transports.other.endpoint: is missing; a logical name such as /orders, the same at both "
             "ends",
             "c.yaml:11:3: transports.other.beta.file: is missing; Where it keeps its notes.",
             "c.yaml:13:5: transports.other.max_mesage_size: unknown key; did you mean 'max_message_size'?"}));
}

struct Wrong {
  const char* name;
  std::string text;  // After "version: 1\n".
  std::string line;  // Without "c.yaml:".
};
void PrintTo(const Wrong& wrong, std::ostream* stream) { *stream << wrong.text; }

class WrongConfig : public testing::TestWithParam<Wrong> {};

TEST_P(WrongConfig, IsRefusedWithOneLine) {
  const LoadedConfig loaded = read("version: 1\n" + GetParam().text);
  EXPECT_EQ(loaded.problems, Lines{"c.yaml:" + GetParam().line});
}

std::string transport(const std::string& rest) {
  return "transports:\n  main:\n    type: alpha\n    endpoint: e\n" + rest;
}

const char kWrite[] = "write 'transports: { main: { type: shm, endpoint: /demo } }'";
const char kNamed[] = "a transport has a name: 'transports: { main: { type: shm, endpoint: /demo } }'";
const char kNameRule[] = "is no name for a transport; a name has 1 to 64 letters, digits, '-' and '_'";

INSTANTIATE_TEST_SUITE_P(
    Top, WrongConfig,
    testing::Values(
        Wrong{"NoTransports", "plugins: {}\n", std::string("1:1: transports: is missing; ") + kWrite},
        Wrong{"TransportsEmpty", "transports: {}\n", std::string("2:13: transports: names no transport; ") + kWrite},
        Wrong{"TransportsIsAList", "transports: [a]\n",
              std::string("2:13: transports: expected a map, got a list; ") + kWrite},
        Wrong{"TransportKeyAtTop", "endpoint: /x\n" + transport(""),
              "2:1: endpoint: unknown key; it belongs to a transport: 'transports: { main: { endpoint: ... } }'"},
        Wrong{"PluginKeyAtTop", "search_paths: [/x]\n" + transport(""),
              "2:1: search_paths: unknown key; it belongs under 'plugins'"},
        Wrong{"PluginsIsText", "plugins: /x\n" + transport(""),
              "2:10: plugins: expected a map, got '/x'; write 'plugins: { search_paths: [/opt/acme/cdmf] }'"},
        Wrong{"PluginKeyUnknown", "plugins: { search_path: [/x] }\n" + transport(""),
              "2:12: plugins.search_path: unknown key; did you mean 'search_paths'?"},
        Wrong{"SearchPathsIsText", "plugins: { search_paths: /x }\n" + transport(""),
              "2:26: plugins.search_paths: expected a list, got '/x'; write a list: [/opt/acme/cdmf]"},
        Wrong{"SearchPathIsAMap", "plugins: { search_paths: [{a: b}] }\n" + transport(""),
              "2:27: plugins.search_paths: expected one value, got a map; name one folder"},
        Wrong{"SearchPathIsEmpty", "plugins: { search_paths: [''] }\n" + transport(""),
              "2:27: plugins.search_paths: names an empty folder"},
        Wrong{"SearchPathIsRelativeInAText", "plugins: { search_paths: [x] }\n" + transport(""),
              "2:27: plugins.search_paths: 'x' is not absolute; a text that is no file has no folder"},
        Wrong{"SecurityIsUnknown", "plugins: { security: strickt }\n" + transport(""),
              "2:22: plugins.security: expected one of strict | warn, got 'strickt'; did you mean 'strict'?"}),
    [](const auto& test) { return std::string(test.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Transport, WrongConfig,
    testing::Values(
        Wrong{"NameMissing", "transports: { type: alpha }\n",
              std::string("2:21: transports.type: expected a map, got 'alpha'; ") + kNamed},
        Wrong{"NameWithASpace", "transports: { 'a b': { type: alpha, endpoint: e } }\n",
              std::string("2:15: transports.a b: ") + kNameRule},
        Wrong{"NameTooLong", "transports: { " + std::string(65, 'a') + ": { type: alpha, endpoint: e } }\n",
              "2:15: transports." + std::string(60, 'a') + "...: " + kNameRule},
        Wrong{"TypeMissing", "transports: { main: { endpoint: e } }\n",
              "2:15: transports.main.type: is missing; known here: alpha, beta"},
        Wrong{"TypeIsAList", "transports: { main: { type: [alpha], endpoint: e } }\n",
              "2:29: transports.main.type: expected one value, got a list; name one type"},
        Wrong{"EndpointTooLong", "transports: { main: { type: alpha, endpoint: " + std::string(256, 'e') + " } }\n",
              "2:46: transports.main.endpoint: has 256 bytes, and may have 255"},
        Wrong{"EndpointWithControl", "transports: { main: { type: alpha, endpoint: \"a\\nb\" } }\n",
              "2:46: transports.main.endpoint: has a control character: 'a\\nb'"},
        Wrong{"CommonKeyIsAMap", transport("    role: {a: b}\n"),
              "6:11: transports.main.role: expected one value, got a map; choice"},
        Wrong{"RoleUnknown", transport("    role: servant\n"),
              "6:11: transports.main.role: expected one of client | server, got \"servant\"; Overrides which side of "
              "the link the program takes."},
        Wrong{"MessageLargerThanTheTypeCarries", transport("    max_message_size: 2MiB\n"),
              "6:23: transports.main.max_message_size: 2MiB is more than type alpha can carry; at most 1MiB"},
        Wrong{"OptionOutsideItsSection", transport("    mode: calm\n"),
              "6:5: transports.main.mode: unknown key; it belongs under 'alpha'"},
        Wrong{"SectionOfNoType", transport("    betta: { file: x }\n"),
              "6:5: transports.main.betta: unknown key; did you mean 'beta'?"},
        Wrong{"SectionOfNoTypeAtAll", transport("    quux: { file: x }\n"),
              "6:5: transports.main.quux: unknown key; there is no plugin of that type; known here: alpha, beta"},
        Wrong{"SectionIsText", transport("    alpha: fast\n"),
              "6:12: transports.main.alpha: expected a map, got 'fast'; options of type alpha stand in it"},
        Wrong{"CommonKeyInASection", transport("    alpha: { role: server }\n"),
              "6:14: transports.main.alpha.role: unknown option of type alpha; it belongs one level up, beside 'type'"},
        Wrong{"OptionIsAList", transport("    alpha: { room: [1] }\n"),
              "6:20: transports.main.alpha.room: expected one value, got a list; size (bytes, e.g. 64KiB)"},
        Wrong{"OptionNotAPowerOfTwo", transport("    alpha: { depth: 6 }\n"),
              "6:21: transports.main.alpha.depth: 6 is not a power of two; 4 and 8 are; How many at once."},
        Wrong{"OptionAboveItsMaximum", transport("    alpha: { room: 2MiB }\n"),
              "6:20: transports.main.alpha.room: 2MiB is above the maximum 1MiB; Bytes in flight."},
        Wrong{"SectionOfAnotherTypeIsCheckedToo", transport("    beta: { file: x, patience: 2 }\n"),
              "6:32: transports.main.beta.patience: \"2\" has no unit; expected a duration such as 50us, 10ms or 3s; "
              "How long it waits."},
        Wrong{"YesIsNoTruth", transport("    auto_reconnect: yes\n"),
              "6:21: transports.main.auto_reconnect: expected true or false, got \"yes\"; did you mean 'true'?"}),
    [](const auto& test) { return std::string(test.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Misplaced, WrongConfig,
    testing::Values(
        Wrong{
            "SectionAtTop", "alpha: { depth: 4 }\n" + transport(""),
            "2:1: alpha: unknown key; it belongs to a transport: 'transports: { main: { type: alpha, alpha: ... } }'"},
        Wrong{"OptionAtTop", "depth: 4\n" + transport(""),
              "2:1: depth: unknown key; it belongs to a transport, under 'alpha'"},
        Wrong{"SectionBesideTheTransports", transport("  alpha: { depth: 4 }\n"),
              "6:3: transports.alpha: has no type; options of type alpha stand inside a transport, beside its 'type'"},
        Wrong{"OptionOfAnotherTypeOutsideItsSection", transport("    beta: { file: x }\n    patience: 1s\n"),
              "7:5: transports.main.patience: unknown key; it belongs under 'beta'"},
        Wrong{"OptionOfAnotherTypeInASection", transport("    alpha: { patience: 1s }\n    beta: { file: x }\n"),
              "6:14: transports.main.alpha.patience: unknown option of type alpha; it belongs under 'beta'"},
        Wrong{"OptionOfATypeThatIsNotNamed", transport("    alpha: { patience: 1s }\n"),
              "6:14: transports.main.alpha.patience: unknown option of type alpha; known here: depth, mode, room, "
              "listens"},
        Wrong{"OptionMisspeltOutsideItsSection", transport("    Mode: calm\n"),
              "6:5: transports.main.Mode: unknown key; did you mean 'mode' under 'alpha'?"},
        Wrong{"TopKeyInATransport", transport("    version: 1\n"),
              "6:5: transports.main.version: unknown key; it belongs to the top level"},
        Wrong{"PluginKeyInATransport", transport("    search_paths: [/x]\n"),
              "6:5: transports.main.search_paths: unknown key; it belongs under 'plugins' at the top level"},
        Wrong{"TransportGivenTwice", transport("  main: { type: beta, endpoint: f, beta: { file: x } }\n"),
              "6:3: transports.main: is given twice, first at 3:3; keep one of the two"},
        Wrong{"SectionGivenTwice", transport("    alpha: { depth: 4 }\n    alpha: { depth: 8 }\n"),
              "7:5: transports.main.alpha: is given twice, first at 6:5; keep one of the two"}),
    [](const auto& test) { return std::string(test.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Value, WrongConfig,
    testing::Values(
        Wrong{"UnitInLowerCase", transport("    alpha: { room: 64kib }\n"),
              "6:20: transports.main.alpha.room: expected a size such as 4096, 64KiB or 1MiB, got \"64kib\"; did you "
              "mean '64KiB'?"},
        Wrong{"BlankBeforeAUnit", transport("    send_timeout: 10 ms\n"),
              "6:19: transports.main.send_timeout: expected a duration such as 50us, 10ms or 3s, got \"10 ms\"; did "
              "you mean '10ms'?"},
        Wrong{"LeadingZero", transport("    alpha: { depth: 016 }\n"),
              "6:21: transports.main.alpha.depth: \"016\" starts with 0, which YAML readers take for octal; drop it; "
              "did you mean '16'?"},
        Wrong{"Hexadecimal", transport("    alpha: { depth: 0x10 }\n"),
              "6:21: transports.main.alpha.depth: expected a decimal integer, got \"0x10\"; How many at once."},
        Wrong{"Fraction", transport("    alpha: { depth: 8.0 }\n"),
              "6:21: transports.main.alpha.depth: expected a decimal integer, got \"8.0\"; How many at once."},
        Wrong{"Exponent", transport("    max_message_size: 1e6\n"),
              "6:23: transports.main.max_message_size: expected a size such as 4096, 64KiB or 1MiB, got \"1e6\"; "
              "Payload bytes of the largest message, inclusive."},
        Wrong{"Negative", transport("    alpha: { depth: -4 }\n"),
              "6:21: transports.main.alpha.depth: -4 is below the minimum 1; How many at once."},
        Wrong{"MoreThan64Bits", transport("    alpha: { depth: 18446744073709551616 }\n"),
              "6:21: transports.main.alpha.depth: \"18446744073709551616\" is too large; How many at once."},
        Wrong{"Zero", transport("    max_message_size: 0\n"),
              "6:23: transports.main.max_message_size: 0 is below the minimum 1; Payload bytes of the largest message, "
              "inclusive."},
        Wrong{"ChoiceInCapitals", transport("    alpha: { mode: CALM }\n"),
              "6:20: transports.main.alpha.mode: expected one of calm | eager, got \"CALM\"; did you mean 'calm'?"},
        Wrong{"RoleInCapitals", transport("    role: Server\n"),
              "6:11: transports.main.role: expected one of client | server, got \"Server\"; did you mean 'server'?"},
        Wrong{"TagOnAValue", transport("    alpha: { depth: !!int 8 }\n"),
              "6:21: transports.main.alpha.depth: tags ('!') are not supported: '!!int'; delete the tag; quotes make a "
              "value text"},
        Wrong{"NullValue", transport("    alpha: { depth: null }\n"),
              "6:21: transports.main.alpha.depth: null is not a value; write a value, or delete the key"},
        Wrong{"EmptyText", transport("    alpha: { depth: '' }\n"),
              "6:21: transports.main.alpha.depth: expected a decimal integer, got nothing; How many at once."},
        Wrong{"EndpointWithAnEscapedZero", "transports: { main: { type: alpha, endpoint: \"a\\0b\" } }\n",
              "2:46: transports.main.endpoint: holds a zero character"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(ConfigReader, DoesNotComplainTwiceAboutOneThing) {
  // What was refused is not missing, and an unknown type has no required options.
  const LoadedConfig loaded = read("version: ~\ntransports:\n  main: { type: !x alpha, endpoint: ~, beta: ~ }\n");
  ASSERT_EQ(loaded.problems.size(), 4U);
  for (const std::string& problem : loaded.problems)
    EXPECT_EQ(problem.find("is missing"), std::string::npos) << problem;
}

}  // namespace
}  // namespace cdmf::ipc
