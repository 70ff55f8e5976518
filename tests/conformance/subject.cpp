#include "conformance/subject.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace cdmf::ipc::conformance {
namespace {

Subject the_subject;
const cdmf_plugin* the_plugin = nullptr;

/// The rest of `word` after `start`, when it starts so.
const char* after(const char* word, std::string_view start) {
  return std::string_view(word).starts_with(start) ? word + start.size() : nullptr;
}

[[noreturn]] void give_up(const char* text) {
  std::fprintf(stderr, "cdmf-conformance: %s\n", text);
  std::exit(2);
}

}  // namespace

std::vector<std::string> Subject::words() const {
  std::vector<std::string> words{"--plugin=" + path, "--watchdog=" + std::to_string(watchdog.count())};
  for (const auto& [name, value] : properties) words.push_back("--property=" + name + "=" + value);
  return words;
}

void read_subject(int& argc, char** argv, bool optional) {
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    if (const char* path = after(argv[i], "--plugin=")) {
      the_subject.path = path;
    } else if (const char* pair = after(argv[i], "--property=")) {
      const std::string_view text(pair);
      const auto end = text.find('=');
      if (end == std::string_view::npos) give_up("--property needs NAME=VALUE");
      the_subject.properties[std::string(text.substr(0, end))] = text.substr(end + 1);
    } else if (const char* seconds = after(argv[i], "--watchdog=")) {
      the_subject.watchdog = std::chrono::seconds(std::atoi(seconds));
      if (the_subject.watchdog.count() <= 0) give_up("--watchdog needs a number of seconds");
    } else if (const char* report = after(argv[i], "--report=")) {
      the_subject.report = report;
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  argv[argc] = nullptr;
  if (the_subject.path.empty()) {
    if (optional) return;
    give_up("which plugin? Say --plugin=/path/of/libcdmf_<type>.so, or use `cdmf conform`");
  }
  if (the_subject.path.find('/') == std::string::npos) give_up("--plugin needs a path with a folder");
  void* const library = dlopen(the_subject.path.c_str(), RTLD_NOW | RTLD_LOCAL);
  const void* const symbol = library == nullptr ? nullptr : dlsym(library, CDMF_PLUGIN_SYMBOL);
  if (symbol == nullptr) give_up(dlerror());
  the_plugin = static_cast<const cdmf_plugin*>(symbol);
}

const Subject& subject() { return the_subject; }

const cdmf_plugin& plugin() {
  if (the_plugin == nullptr) give_up("no plugin was named");
  return *the_plugin;
}

}  // namespace cdmf::ipc::conformance
