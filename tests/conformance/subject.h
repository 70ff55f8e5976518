#pragma once
// conformance/subject.h: the plugin under test and its options, from the command line of the suite.
//   --plugin=PATH              the .so, an absolute path
//   --property=NAME=VALUE      an option of the plugin, or a key that every transport knows; repeatable
//   --watchdog=SECONDS         after which a test gives up waiting (default 30)
//   --report=FILE              results are also written there, for `cdmf conform` (report.h)
#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "ipc/plugin_abi.h"

namespace cdmf::ipc::conformance {

struct Subject {
  std::string path;
  std::map<std::string, std::string> properties;
  std::chrono::seconds watchdog{30};
  std::string report;

  /// The words that give another process of this program the same subject.
  [[nodiscard]] std::vector<std::string> words() const;
};

/// Takes the words above out of argv; others stay. Ends the program with a message when the plugin cannot be loaded or
/// none was named, unless `optional`.
void read_subject(int& argc, char** argv, bool optional);

[[nodiscard]] const Subject& subject();
/// The descriptor of the plugin under test. It stays loaded.
[[nodiscard]] const cdmf_plugin& plugin();

}  // namespace cdmf::ipc::conformance
