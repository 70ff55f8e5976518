// The `routes` section: what is right, and every way to be wrong, with its place.
#include <gtest/gtest.h>

#include <string>

#include "ipc/host_config.h"
#include "ipc/plugin.h"

namespace cdmf::ipc {
namespace {

cdmf_status no_driver(const cdmf_host*, const cdmf_config*, cdmf_driver*, cdmf_error*) { return CDMF_UNSUPPORTED; }
const cdmf_plugin kAlpha = {sizeof(cdmf_plugin),
                            CDMF_PLUGIN_MAGIC,
                            CDMF_ABI_MAJOR,
                            CDMF_ABI_MINOR,
                            0,
                            0,
                            &sdk::kBuildInfo,
                            "alpha",
                            "1.0.0",
                            "cdmf tests",
                            "none",
                            "For tests.",
                            0,
                            1 << 20,
                            nullptr,
                            0,
                            &no_driver,
                            &sdk::no_extension};

LoadedConfig read(const std::string& routes) {
  RegistryOptions options;
  options.use_environment = false;
  options.use_default_folders = false;
  options.builtin = {&kAlpha};
  return read_config_text("b.yaml",
                          "version: 1\n"
                          "transports:\n"
                          "  local: { type: alpha, endpoint: /a }\n"
                          "  remote: { type: alpha, endpoint: /b }\n"
                          "  small: { type: alpha, endpoint: /c, max_message_size: 1KiB }\n" +
                              routes,
                          options);
}

std::string only_problem(const std::string& routes) {
  const LoadedConfig loaded = read(routes);
  EXPECT_EQ(loaded.problems.size(), 1u) << routes;
  return loaded.problems.empty() ? "" : loaded.problems.front();
}

TEST(RouteReader, GivesEveryKeyItsPlaceAndTheOthersTheirDefaults) {
  const LoadedConfig loaded = read(
      "routes:\n"
      "  - { from: local, to: remote, match: \"orders.*\", both_ways: true, when_down: drop_newest_counted }\n"
      "  - from: small\n"
      "    to: local\n");
  ASSERT_TRUE(loaded.ok()) << loaded.problems.front();
  ASSERT_EQ(loaded.config.routes.size(), 2u);
  const RouteEntry& first = loaded.config.routes[0];
  EXPECT_EQ(first.from, "local");
  EXPECT_EQ(first.to, "remote");
  EXPECT_EQ(first.match, "orders.*");
  EXPECT_TRUE(first.both_ways);
  EXPECT_EQ(first.when_down, WhenDown::DROP_NEWEST_COUNTED);
  EXPECT_EQ(first.place, "b.yaml:7:5");
  const RouteEntry& second = loaded.config.routes[1];
  EXPECT_EQ(second.match, "*");
  EXPECT_FALSE(second.both_ways);
  EXPECT_EQ(second.when_down, WhenDown::BLOCK);
}

TEST(RouteReader, SaysWhatIsWrongWhereAndWhatToDo) {
  struct Case {
    const char* routes;
    const char* problem;
  };
  const Case cases[] = {
      {"routes: []\n", "b.yaml:6:9: routes: names no route; write 'routes: ["},
      {"routes: { from: local }\n", "b.yaml:6:9: routes: expected a list"},
      {"routes: [local]\n", "b.yaml:6:10: routes[0]: expected a map"},
      {"routes: [{ from: local }]\n", "b.yaml:6:10: routes[0].to: is missing"},
      {"routes: [{ from: lokal, to: remote }]\n",
       "b.yaml:6:18: routes[0].from: 'lokal' is no transport of this file; did you mean 'local'?"},
      {"routes: [{ from: local, to: local }]\n", "b.yaml:6:29: routes[0].to: 'local' is where the route comes from"},
      {"routes: [{ from: local, to: remote, math: x }]\n",
       "b.yaml:6:37: routes[0].math: unknown key; did you mean 'match'?"},
      {"routes: [{ from: local, to: remote, match: '' }]\n", "routes[0].match: a pattern has 1 to 256 bytes"},
      {"routes: [{ from: local, to: remote, both_ways: yes }]\n", "routes[0].both_ways: expected true or false"},
      {"routes: [{ from: local, to: remote, both_ways: [true] }]\n", "routes[0].both_ways: expected one value"},
      {"routes: [{ from: local, to: remote, when_down: drop }]\n",
       "routes[0].when_down: expected one of block | drop_newest_counted | fail, got 'drop'"},
      {"routes: [{ from: local, to: small }]\n", "routes[0]: messages of 'local' have up to 64KiB, 'small' takes 1KiB"},
      {"routes: [{ from: small, to: local, both_ways: true }]\n", "'small' takes 1KiB"},
      {"routes: [{ from: local, to: remote }, { from: local, to: small, match: a }]\n", "routes[1]"},
      {"routes: [{ from: local, to: remote, both_ways: true }, { from: remote, to: local, match: a }]\n",
       "routes[1]: never gets a message of 'remote': b.yaml:6:10 takes all of 'a'; the first route that matches wins"},
  };
  for (const Case& each : cases) {
    const LoadedConfig loaded = read(each.routes);
    ASSERT_FALSE(loaded.ok()) << each.routes;
    std::string all;
    for (const std::string& line : loaded.problems) all += line + "\n";
    EXPECT_NE(all.find(each.problem), std::string::npos) << each.routes << all;
  }
  EXPECT_NE(only_problem("route: []\n").find("did you mean 'routes'?"), std::string::npos);
}

TEST(RouteReader, ReportsEveryProblemAtOnce) {
  EXPECT_EQ(read("routes: [{ from: x, to: y }, { from: local, to: remote, match: [] }, 7]\n").problems.size(), 4u);
}

}  // namespace
}  // namespace cdmf::ipc
