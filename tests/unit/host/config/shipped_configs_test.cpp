// The files in config/ against the tables of the plugins of this build. When a table has changed on purpose:
//   CDMF_UPDATE_REFERENCE=1 ctest -R unit.host.shipped_configs
// writes config/reference.yaml anew.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "ipc/host.h"
#include "ipc/property.h"
#include "unit/host/temp_folder.h"

namespace cdmf::ipc {
namespace {

const std::vector<std::string> kShippedTypes = {"shm", "unix_socket", "loopback"};
const std::vector<std::string> kTypesOfTheReference = {"shm", "unix_socket", "loopback", "grpc"};
constexpr std::size_t kColumns = 120;

std::filesystem::path config_folder() {
  const char* folder = std::getenv("CDMF_CONFIG_DIR");
  EXPECT_NE(folder, nullptr) << "CDMF_CONFIG_DIR names the folder of the shipped configurations";
  return folder == nullptr ? "" : folder;
}

RegistryOptions quiet() {
  RegistryOptions options;
  options.log = [](LogLevel, std::string_view) {};
  return options;
}

// ---- reference.yaml
// -----------------------------------------------------------------------------------------------------

/// Comment lines of at most kColumns columns.
std::string comment(const std::string& indent, const std::string& text) {
  std::istringstream words(text);
  std::string result;
  std::string line = indent + "#";
  for (std::string word; words >> word;) {
    if (line.size() + 1 + word.size() > kColumns) {
      result += line + "\n";
      line = indent + "#";
    }
    line += " " + word;
  }
  return result + line + "\n";
}

std::string range_of(const cdmf_property& row) {
  std::string text = describe_type(row);
  if (row.type == CDMF_PROPERTY_CHOICE) {
    text = "one of";
    for (std::size_t i = 0; row.choices[i] != nullptr; ++i)
      text += (i == 0 ? " " : " | ") + std::string(row.choices[i]);
  }
  if ((row.flags & CDMF_PROPERTY_POWER_OF_TWO) != 0) text += ", a power of two";
  if (row.minimum != nullptr && row.maximum != nullptr) {
    text += ", " + std::string(row.minimum) + " to " + row.maximum;
  } else if (row.minimum != nullptr) {
    text += ", at least " + std::string(row.minimum);
  } else if (row.maximum != nullptr) {
    text += ", at most " + std::string(row.maximum);
  }
  if (row.default_text != nullptr) return text + "; default " + row.default_text;
  return text + ((row.flags & CDMF_PROPERTY_REQUIRED) != 0 ? "; required" : "; no default");
}

/// A row as it stands in the file. Without a default there is no value to write, so the key is a comment.
std::string entry(const std::string& indent, const cdmf_property& row) {
  std::string text = comment(indent, row.summary) + comment(indent, range_of(row));
  if (row.default_text == nullptr) return text + indent + "# " + row.name + ":\n";
  const bool empty = *row.default_text == '\0';
  return text + indent + row.name + ": " + (empty ? "''" : row.default_text) + "\n";
}

std::string reference(TransportRegistry& registry) {
  std::string text =
      "# Every key of a configuration, with its meaning, its range and its default, which is the value written here.\n"
      "# This file is made from the tables of the program and its plugins by the test that compares the two.\n"
      "#\n"
      "# Sizes are bytes, alone or with KiB, MiB, GiB (1024) or KB, MB, GB (1000). Durations have a unit: ns, us, ms, "
      "s,\n"
      "# min, h; 0 needs none. Numbers are decimal. A wrong value is refused, never rounded.\n"
      "\n"
      "# Version of this format: 1. Required.\n"
      "version: 1\n"
      "\n"
      "# May be left out.\n"
      "plugins:\n"
      "  # Folders with plugins (libcdmf_<type>.so), after those named by --plugin-path and CDMF_PLUGIN_PATH and "
      "before the\n"
      "  # installed ones. A relative one starts at the folder of this file. Default: none.\n"
      "  search_paths: []\n"
      "  # What to do with a plugin that people could change who are neither root nor this user and cannot change the\n"
      "  # program: strict refuses it, warn logs a warning and loads it. Default: strict.\n"
      "  security: strict\n"
      "\n"
      "# At least one, by names of the program's choice: 1 to 64 letters, digits, '-' and '_'.\n"
      "transports:\n"
      "  main:\n"
      "    # The plugin that carries the messages. Required.\n"
      "    type: shm\n"
      "    # Logical name, the same at both ends: 1 to 255 bytes. Each type derives its own object from it. Required.\n"
      "    endpoint: /cdmf_reference\n";
  for (const cdmf_property& row : common_properties()) text += entry("    ", row);
  for (const std::string& type : kTypesOfTheReference) {
    const auto plugin = registry.find(type);
    EXPECT_TRUE(plugin) << plugin.text();
    if (!plugin) continue;
    text +=
        "\n" + comment("    ", "Options of type " + type + ": " + plugin.value->summary + ".") + "    " + type + ":\n";
    for (std::size_t i = 0; i < plugin.value->property_count; ++i) text += entry("      ", plugin.value->properties[i]);
  }
  text +=
      "\n"
      "  # Where the route below leads.\n"
      "  other: { type: unix_socket, endpoint: /cdmf_reference_other }\n"
      "\n"
      "# May be left out. `cdmf run` passes messages on between transports of this file; the first route that matches\n"
      "# wins. Of the transports here, those that routes come from are servers, the others clients, unless they say\n"
      "# `role`. A request goes to one peer, in turn, and its answer finds back; anything else goes to all.\n"
      "routes:\n"
      "  # Names of transports. Required.\n"
      "  - from: main\n"
      "    to: other\n"
      "    # Subjects that take this way: * stands for any bytes, ? for one. Default: all.\n"
      "    match: '*'\n"
      "    # true: what comes over `to` goes to `from` as well. true or false; default false\n"
      "    both_ways: false\n"
      "    # What happens to a message while `to` is down or full. block: it waits, and what came behind it, too.\n"
      "    # drop_newest_counted: it is dropped and counted. fail: its sender is told; a request gets an error, after\n"
      "    # anything else the link ends. Default: block.\n"
      "    when_down: block\n";
  return text;
}

TEST(ReferenceYaml, HasEveryKeyOfEveryTableWithMeaningRangeAndDefault) {
  TransportRegistry registry(quiet());
  const std::string expected = reference(registry);
  const std::string file = (config_folder() / "reference.yaml").string();
  if (std::getenv("CDMF_UPDATE_REFERENCE") != nullptr) std::ofstream(file) << expected;
  EXPECT_EQ(read_bytes(file), expected) << "run CDMF_UPDATE_REFERENCE=1 ctest -R unit.host.shipped_configs";
}

TEST(ReferenceYaml, SaysTheDefaultsThatTheProgramHas) {
  const LoadedConfig loaded = read_config_file((config_folder() / "reference.yaml").string(), quiet());
  ASSERT_TRUE(loaded.ok()) << loaded.problems.front();
  const TransportConfig& config = loaded.config.transports.at(0).config;
  const TransportConfig fresh;
  EXPECT_EQ(config.max_message_size, fresh.max_message_size);
  EXPECT_EQ(config.send_timeout, fresh.send_timeout);
  EXPECT_EQ(config.receive_timeout, fresh.receive_timeout);
  EXPECT_EQ(config.connect_timeout, fresh.connect_timeout);
  EXPECT_EQ(config.auto_reconnect, fresh.auto_reconnect);
  EXPECT_EQ(loaded.config.plugins.security, RegistryOptions().security);
}

// ---- The others
// ---------------------------------------------------------------------------------------------------------

TEST(ShippedConfigs, DifferInTheWordAfterTypeOnly) {
  const std::regex type_line("\n    type: [a-z_]+\n");
  const std::string shm = read_bytes((config_folder() / "shm.yaml").string());
  ASSERT_TRUE(std::regex_search(shm, type_line));
  for (const std::string& type : kShippedTypes) {
    const std::string text = read_bytes((config_folder() / (type + ".yaml")).string());
    EXPECT_EQ(text, std::regex_replace(shm, type_line, "\n    type: " + type + "\n")) << type;
  }
}

TEST(ShippedConfigs, CanAllBeUsedByBothSides) {
  std::size_t count = 0;
  for (const auto& file : std::filesystem::directory_iterator(config_folder())) {
    if (file.path().extension() != ".yaml") continue;
    ++count;
    auto host = Host::load(file.path().string(), quiet());
    ASSERT_TRUE(host) << host.text();
    for (const TransportEntry& transport : host.value->config().transports) {
      for (const Role role : {Role::SERVER, Role::CLIENT}) {
        const auto made = host.value->create(transport.name, role);
        EXPECT_TRUE(made) << made.text();
      }
    }
  }
  EXPECT_GE(count, kShippedTypes.size() + 1);
}

TEST(ShippedConfigs, PresetsHaveTheCapacityAndTheMessageSizeOfTheirScenario) {
  struct Preset {
    const char* file;
    const char* capacity;
    std::size_t message_size_least;  // 0: as it is.
    std::size_t message_size_most;
    const char* ring_type = "spsc";
  };
  const Preset presets[] = {
      {"ultra_low_latency.yaml", "256", 0, 4 << 10},
      {"high_throughput.yaml", "16384", 64 << 10, SIZE_MAX},
      {"balanced.yaml", "4096", 0, 64 << 10},
      {"multi_producer.yaml", "8192", 8 << 10, 16'000, "mpmc"},
      {"multi_consumer.yaml", "2048", 4 << 10, 8'000, "mpmc"},
  };
  for (const Preset& preset : presets) {
    const LoadedConfig loaded = read_config_file((config_folder() / preset.file).string(), quiet());
    ASSERT_TRUE(loaded.ok()) << loaded.problems.front();
    ASSERT_EQ(loaded.config.transports.size(), 1u) << preset.file;
    const TransportConfig& config = loaded.config.transports.front().config;
    const auto capacity = config.properties.find("ring_buffer_capacity");
    ASSERT_NE(capacity, config.properties.end()) << preset.file;
    EXPECT_EQ(capacity->second, preset.capacity) << preset.file;
    const auto ring_type = config.properties.find("ring_type");
    EXPECT_EQ(ring_type == config.properties.end() ? "spsc" : ring_type->second, preset.ring_type) << preset.file;
    EXPECT_GE(config.max_message_size, preset.message_size_least) << preset.file;
    EXPECT_LE(config.max_message_size, preset.message_size_most) << preset.file;
    EXPECT_EQ(loaded.config.transports.front().type, "shm") << preset.file;
    const std::string text = read_bytes((config_folder() / preset.file).string());
    if (ring_type == config.properties.end()) {
      EXPECT_EQ(text.rfind("# Use it ", 0), 0u) << preset.file << " says first when to use it";
    }
  }
}

}  // namespace
}  // namespace cdmf::ipc
