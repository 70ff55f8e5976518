// Plugins that cannot work, given to the real program: each is refused with exit code 1 and one line that says what is
// wrong, where, and what to do next. None ends the program, and one that lies beside others is in nobody's way.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "program.h"

namespace cdmf::ipc::test {
namespace {

namespace fs = std::filesystem;

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::string built(const std::string& type) { return std::string(CDMF_TEST_PLUGINS "/libcdmf_") + type + ".so"; }

/// A folder with plugins that only this user may write, and configurations that name them.
class Folder {
 public:
  Folder() { fs::create_directory(plugins()); }
  [[nodiscard]] std::string plugins() const { return folder_.path("plugins"); }
  [[nodiscard]] std::string file(const std::string& type) const { return plugins() + "/libcdmf_" + type + ".so"; }
  void add(const std::string& type) const { write(type, read_file(built(type))); }
  void write(const std::string& type, const std::string& bytes) const {
    (void)folder_.write("plugins/libcdmf_" + type + ".so", bytes);
    ASSERT_EQ(::chmod(file(type).c_str(), 0700), 0);
  }
  [[nodiscard]] std::string config(const std::string& type) const {
    return folder_.write("c.yaml",
                         "version: 1\nplugins: { search_paths: [plugins] }\ntransports:\n"
                         "  main: { type: " +
                             type + ", endpoint: /e }\n");
  }
  [[nodiscard]] Finished run(const std::vector<std::string>& words) const { return test::run(folder_, words); }

 private:
  TestFolder folder_;
};

struct Broken {
  const char* type;
  std::vector<std::string> parts;                // What the line says, besides the file's path.
  std::function<void(const Folder&)> make = {};  // Nothing: the plugin of that name of tests/support/plugins.
};
void PrintTo(const Broken& broken, std::ostream* stream) { *stream << broken.type; }

std::string good() { return read_file(built("good")); }
std::string with_byte(std::size_t at, char byte) {
  std::string bytes = good();
  bytes.at(at) = byte;
  return bytes;
}

std::vector<Broken> broken_plugins() {
  std::vector<Broken> all = {
      {"no_symbol", {"does not export cdmf_plugin_v1", "CDMF_EXPORT_TRANSPORT"}},
      {"other_symbol", {"but cdmf_plugin_v7", "rebuild it with the headers of cdmf 1.x"}},
      {"borrower", {"the one found belongs to", "libcdmf_donor.so", "in the plugin itself"}},
      {"other_major", {"abi_major: plugin 2, host 1", "rebuild it"}},
      {"other_magic", {"magic: plugin 0x12345678", "no cdmf plugin, or is damaged"}},
      {"newer_host", {"min_host_minor: plugin 7, host 0", "use a host of ABI 1.7 or newer"}},
      {"small_struct", {"struct_size: plugin 16", "its author corrects the descriptor"}},
      {"short_symbol", {"size of the symbol cdmf_plugin_v1: plugin 4", "its author exports a whole descriptor"}},
      {"other_type", {"type: plugin \"good\", file name \"other_type\"", "name the file libcdmf_good.so"}},
      {"many_faults", {"summary is NULL", "MemorySanitizer", "create is NULL"}},
      {"bad_table", {"properties[1] \"twice\" is there twice", "its author corrects the descriptor"}},
      {"no_table", {"properties is NULL"}},
      {"endless_table", {"property_count: plugin 18446744073709551615, host at most 1024"}},
      {"role", {"is the name of a key that every transport has"}},
      {"needs_library", {"cannot be loaded: libcdmf_test_vanishing.so", "install the library that it needs"}},
      {"undefined", {"undefined symbol: cdmf_test_nobody_defines_this", "-Wl,-z,defs"}},
      {"text",
       {"is not an ELF file", "put the built library there"},
       [](const Folder& f) { f.write("text", "#!/bin/sh\n"); }},
      {"empty", {"is empty", "copy it there again"}, [](const Folder& f) { f.write("empty", ""); }},
      {"header", {"is truncated in its header"}, [](const Folder& f) { f.write("header", good().substr(0, 33)); }},
      {"cut",
       {"is truncated: it has 5000 bytes", "copy it"},
       [](const Folder& f) { f.write("cut", good().substr(0, 5000)); }},
      {"machine",
       {"machine AArch64 where this program has", "build it for this one"},
       [](const Folder& f) { f.write("machine", with_byte(18, '\xB7')); }},
      {"bits",
       {"class 32-bit where this program has 64-bit"},
       [](const Folder& f) { f.write("bits", with_byte(4, 1)); }},
      {"program",
       {"is an ELF file, but no shared library", "-shared"},
       [](const Folder& f) { f.write("program", with_byte(16, 2)); }},
      {"folder",
       {"is a folder", "put the built library there"},
       [](const Folder& f) { fs::create_directory(f.file("folder")); }},
      {"pipe", {"is a pipe"}, [](const Folder& f) { ASSERT_EQ(::mkfifo(f.file("pipe").c_str(), 0600), 0); }},
      {"device", {"is a device"}, [](const Folder& f) { fs::create_symlink("/dev/null", f.file("device")); }},
      {"nowhere",
       {"No such file or directory", "let the link point to the built library"},
       [](const Folder& f) { fs::create_symlink("nothing", f.file("nowhere")); }},
      {"loop",
       {"Too many levels of symbolic links", "let the link point to the built library"},
       [](const Folder& f) { fs::create_symlink("libcdmf_loop.so", f.file("loop")); }},
      {"open",
       {"is writable by everybody (mode 0666)", "use chmod go-w"},
       [](const Folder& f) {
         f.write("open", good());
         ASSERT_EQ(::chmod(f.file("open").c_str(), 0666), 0);
       }},
      {"good",
       {"is writable by everybody (mode 0777)", "/plugins\"", "use chmod go-w"},
       [](const Folder& f) {
         f.add("good");
         ASSERT_EQ(::chmod(f.plugins().c_str(), 0777), 0);
       }},
  };
  if (fs::exists(built("sanitized"))) {
    all.push_back({"sanitized", {"needs the runtime of AddressSanitizer (libasan.so", "LD_PRELOAD=libasan.so"}});
  }
  if (::geteuid() == 0) {
    all.push_back({"foreign", {"belongs to user 12345", "use chown, or move the plugin"}, [](const Folder& f) {
                     f.write("foreign", good());
                     ASSERT_EQ(::chown(f.file("foreign").c_str(), 12345, 12345), 0);
                   }});
  }
  return all;
}

class BrokenPlugin : public testing::TestWithParam<Broken> {};

TEST_P(BrokenPlugin, IsRefusedByTheProgramWithWhatWhereAndWhatNext) {
  const Broken& broken = GetParam();
  const Folder folder;
  if (broken.make) {
    broken.make(folder);
  } else {
    folder.add(broken.type);
  }
  const std::string config = folder.config(broken.type);

  const auto checked = folder.run({"check", config});
  EXPECT_EQ(checked.code, 1) << checked.errors;
  EXPECT_EQ(checked.output, "");
  const std::string place = config + ":4:17: transports.main.type: plugin \"" + folder.file(broken.type) + "\" ";
  EXPECT_EQ(checked.errors.substr(0, place.size()), place);
  EXPECT_EQ(std::count(checked.errors.begin(), checked.errors.end(), '\n'), 1) << checked.errors;
  for (const std::string& part : broken.parts)
    EXPECT_TRUE(contains(checked.errors, part)) << part << "\n" << checked.errors;

  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"recv", config}, {"--plugin-path", folder.plugins(), "plugins", "doc", broken.type}}) {
    const auto refused = folder.run(words);
    EXPECT_EQ(refused.code, 1) << words.front() << refused.errors;
    EXPECT_EQ(refused.output, "");
    for (const std::string& part : broken.parts) EXPECT_TRUE(contains(refused.errors, part)) << refused.errors;
  }
}

INSTANTIATE_TEST_SUITE_P(Each, BrokenPlugin, testing::ValuesIn(broken_plugins()),
                         [](const auto& test) { return std::string(test.param.type); });

TEST(BrokenPlugins, AreListedEachWithItsReasonBesideTheGoodOnes) {
  const Folder folder;
  std::vector<std::string> types;
  for (const Broken& broken : broken_plugins()) {
    if (std::string(broken.type) == "good") continue;  // Opens the folder itself.
    types.emplace_back(broken.type);
    if (broken.make) {
      broken.make(folder);
    } else {
      folder.add(broken.type);
    }
  }
  folder.add("good");
  const auto list = folder.run({"--plugin-path", folder.plugins(), "plugins", "list", "--all"});
  EXPECT_EQ(list.code, 0) << list.errors;
  EXPECT_TRUE(contains(list.output, "\ngood ")) << list.output;
  for (const std::string& type : types) {
    EXPECT_TRUE(contains(list.output, "\n" + type + " refused: " + folder.file(type) + "\n    "))
        << type << list.output;
  }
}

TEST(BrokenPlugins, StopNobodyWhoDoesNotNameThem) {
  const Folder folder;
  for (const char* type : {"good", "bad_table", "needs_library", "crashes"}) folder.add(type);
  folder.write("text", "hello");
  ASSERT_EQ(::mkfifo(folder.file("pipe").c_str(), 0600), 0);
  const auto checked = folder.run({"check", folder.config("good")});
  EXPECT_EQ(checked.code, 0) << checked.errors;
  EXPECT_EQ(checked.errors, "");
  const auto wrong = folder.run({"check", folder.config("godo")});
  EXPECT_EQ(wrong.code, 1);
  EXPECT_TRUE(contains(wrong.errors, "did you mean \"good\"?")) << wrong.errors;
}

// Sanitizers turn an abort() into a report and an exit code of their own; the plugin is named all the same.
TEST(BrokenPlugins, ThatEndTheirProcessAreNamedInsteadOfEndingTheList) {
  const Folder folder;
  folder.add("good");
  folder.add("crashes");
  const auto list = folder.run({"--plugin-path", folder.plugins(), "plugins", "list"});
  EXPECT_EQ(list.code, 1);
  EXPECT_TRUE(contains(list.errors, "libcdmf_crashes.so ends the process that loads it (")) << list.errors;
  EXPECT_TRUE(contains(list.errors, "remove it from its folder")) << list.errors;
}

TEST(WrongWords, InPlaceOfACommandAreNamedWithTheNearestOne) {
  const Folder folder;
  const auto wrong = folder.run({"chekc", "x.yaml"});
  EXPECT_EQ(wrong.code, 2);
  EXPECT_TRUE(contains(wrong.errors, "'chekc' is no command; did you mean 'check'?")) << wrong.errors;
  const auto below = folder.run({"plugins", "dco", "shm"});
  EXPECT_EQ(below.code, 2);
  EXPECT_TRUE(contains(below.errors, "'dco' is no command of plugins; did you mean 'doc'?")) << below.errors;
  const auto far = folder.run({"frobnicate"});
  EXPECT_TRUE(contains(far.errors, "'frobnicate' is no command; known here: run, recv, send")) << far.errors;
  EXPECT_FALSE(contains(far.errors, "bench-peer")) << far.errors;
}

TEST(BrokenPlugins, WhoseDriverCannotBeMadeEndTheCommandWithItsReason) {
  const Folder folder;
  folder.add("create_fails");
  folder.add("create_throws");
  const auto fails = folder.run({"recv", folder.config("create_fails")});
  EXPECT_EQ(fails.code, 1);
  EXPECT_TRUE(contains(fails.errors, "RESOURCE_EXHAUSTED") && contains(fails.errors, "no room for \"/e\""))
      << fails.errors;
  EXPECT_TRUE(contains(fails.errors, "c.yaml:4:3: transports.main")) << fails.errors;
  const auto throws = folder.run({"recv", folder.config("create_throws")});
  EXPECT_EQ(throws.code, 1);
  EXPECT_TRUE(contains(throws.errors, "the plugin threw in its constructor: no driver today")) << throws.errors;
}

TEST(BrokenPlugins, OfOneTypeAreTakenInTheOrderOfTheFoldersAndTheBrokenFirstOneIsNotPassedOver) {
  const Folder first;
  const Folder second;
  first.write("good", "not a library");
  second.add("good");
  const std::vector<std::string> both = {"--plugin-path", first.plugins(), "--plugin-path", second.plugins()};
  std::vector<std::string> words = both;
  words.insert(words.end(), {"plugins", "inspect", "good"});
  const auto refused = first.run(words);
  EXPECT_EQ(refused.code, 1);
  EXPECT_TRUE(contains(refused.errors, first.file("good") + "\" is not an ELF file")) << refused.errors;
  words = both;
  words.insert(words.end(), {"plugins", "list", "--all"});
  const auto list = first.run(words);
  EXPECT_TRUE(contains(list.output, "good refused: " + first.file("good"))) << list.output;
  EXPECT_TRUE(contains(list.output, "good shadowed: " + second.file("good"))) << list.output;
}

}  // namespace
}  // namespace cdmf::ipc::test
