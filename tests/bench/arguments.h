#pragma once
// bench/arguments.h: the words that every benchmark here takes: [--rounds N] [--only WORD] [--json].
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>

namespace cdmf::bench {

struct Arguments {
  int rounds = 9;
  std::string only;  // Empty: everything.
  bool json = false;
};

/// Nothing, with a message, when the words are not those.
inline std::optional<Arguments> read_arguments(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--json") {
      arguments.json = true;
    } else if (word == "--only" && i + 1 < argc) {
      arguments.only = argv[++i];
    } else if (word == "--rounds" && i + 1 < argc && std::atoi(argv[i + 1]) > 0) {
      arguments.rounds = std::atoi(argv[++i]);
    } else {
      std::fprintf(stderr,
                   "usage: %s [--rounds N] [--only WORD] [--json]\n"
                   "  --rounds N   how often everything is measured, 1 or more (9)\n"
                   "  --only WORD  only what has WORD in its name\n"
                   "  --json       one JSON object instead of a table\n",
                   argv[0]);
      return std::nullopt;
    }
  }
  return arguments;
}

}  // namespace cdmf::bench
