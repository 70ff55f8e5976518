#pragma once
// config/yaml_document.h: one YAML file as a small tree that remembers where each word stood.
// A strict subset of YAML: what a configuration does not need, and what a reader could misunderstand, is refused.
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/problem.h"

namespace cdmf::ipc::config {

/// Bounds of what is read. A configuration is a page of text; more is a mistake or an attack.
inline constexpr std::size_t kYamlBytesMax = std::size_t{256} * 1024;
inline constexpr std::size_t kYamlDepthMax = 32;  // The document's own map counts as 1.

struct YamlEntry;

struct YamlNode {
  enum class Kind {
    scalar,
    sequence,
    map,
    refused,  // Stood in the file but is already among the problems: skip it, a second complaint would only confuse.
  };

  Kind kind = Kind::refused;
  Position position;               // Where the value starts. An empty map or sequence has one, too.
  bool quoted = false;             // Scalar in quotes or a block ("8080", not 8080): text, whatever it looks like.
  std::string text;                // Scalar: its value, valid UTF-8 without zero bytes. Never empty unless quoted.
  std::vector<YamlNode> items;     // Sequence.
  std::vector<YamlEntry> entries;  // Map, in the order of the file; keys differ from each other.

  /// The entry with that key, or nullptr. Only maps have entries.
  const YamlEntry* find(std::string_view key) const;
};

struct YamlEntry {
  std::string key;
  Position key_position;
  YamlNode value;
};

/// What was read. `root` is there when the text could be parsed to its end, even when `problems` is not empty: the
/// caller may then check the rest as well, so that all problems come at once. It is always a map.
struct YamlDocument {
  std::optional<YamlNode> root;
  Problems problems;
};

/// Reads a regular file of at most kYamlBytesMax bytes. Folders, pipes and devices are refused without being read, and
/// nothing here waits for one. Never throws because of what the file is or holds.
YamlDocument read_yaml_file(const std::string& path);

/// Reads a text; `name` stands for the file in messages.
///
/// Refused, each with its place: bytes that are not UTF-8, control characters, syntax errors, anything but one
/// document holding one map, more than kYamlBytesMax bytes, nesting over kYamlDepthMax, anchors, aliases, tags, merge
/// keys, keys that are not plain words, keys given twice, values left empty or null, quotes that are never closed.
YamlDocument read_yaml_text(std::string name, std::string_view text);

}  // namespace cdmf::ipc::config
