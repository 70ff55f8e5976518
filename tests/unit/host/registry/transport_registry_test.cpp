#include "ipc/transport_registry.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "ipc/plugin.h"
#include "unit/host/temp_folder.h"

namespace cdmf::ipc {
namespace {

/// Plugins of tests/support/plugins, each in a fresh copy: a copy is a library of its own to the loader.
class TransportRegistryTest : public testing::Test {
 protected:
  void SetUp() override {
    ::unsetenv("CDMF_PLUGIN_PATH");
    folder_ = temp_.add_folder("plugins");
  }

  static std::string built(const std::string& type) {
    const char* folder = std::getenv("CDMF_TEST_PLUGINS");
    EXPECT_NE(folder, nullptr) << "CDMF_TEST_PLUGINS names the folder of the test plugins";
    return std::string(folder == nullptr ? "" : folder) + "/libcdmf_" + type + ".so";
  }
  /// Puts the test plugin `type` into a folder, as a plugin of type `as`.
  void add(const std::string& type, const std::string& as, const std::string& folder) const {
    const std::string to = folder + "/libcdmf_" + as + ".so";
    std::filesystem::copy_file(built(type), to, std::filesystem::copy_options::overwrite_existing);
    ASSERT_EQ(::chmod(to.c_str(), 0600), 0);
  }
  void add(const std::string& type) const { add(type, type, folder_); }
  std::string file(const std::string& type) const { return folder_ + "/libcdmf_" + type + ".so"; }

  RegistryOptions options(std::vector<std::string> folders = {}) {
    RegistryOptions options;
    options.plugin_paths = folders.empty() ? std::vector<std::string>{folder_} : std::move(folders);
    options.use_environment = false;
    options.use_default_folders = false;
    options.log_level = LogLevel::debug;
    options.log = [this](LogLevel level, std::string_view line) {
      const std::lock_guard lock(log_mutex_);
      log_ += std::string(to_string(level)) + ": " + std::string(line) + "\n";
    };
    return options;
  }
  /// Why that test plugin is refused; empty when it is not.
  std::string refusal(const std::string& type) {
    add(type);
    TransportRegistry registry(options());
    const auto found = registry.find(type);
    if (found) return {};
    EXPECT_EQ(found.error, TransportError::PLUGIN_ERROR);
    const std::string start = "plugin \"" + file(type) + "\" ";
    EXPECT_EQ(found.error_message.substr(0, start.size()), start);
    return found.error_message.substr(std::min(start.size(), found.error_message.size()));
  }

  TempFolder temp_;
  std::string folder_;
  std::mutex log_mutex_;
  std::string log_;
};

constexpr char kAuthor[] = "; its author corrects the descriptor by what ipc/plugin_abi.h says";

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// ---- Use
// --------------------------------------------------------------------------------------------------------------

TEST_F(TransportRegistryTest, LoadsAPluginWrittenInPlainC) {
  add("good");
  TransportRegistry registry(options());
  const auto found = registry.find("good");
  ASSERT_TRUE(found) << found.text();
  EXPECT_STREQ(found.value->version, "1.2.3");
  EXPECT_TRUE(has(log_, "debug: plugin good 1.2.3 loaded from \"" + file("good") + '"')) << log_;

  auto transport = registry.create("good");
  ASSERT_TRUE(transport) << transport.text();
  EXPECT_EQ(transport.value->getState(), TransportState::UNINITIALIZED);
}

TEST_F(TransportRegistryTest, LetsATransportOutliveIt) {
  add("good");
  std::unique_ptr<Transport> transport;
  {
    TransportRegistry registry(options());
    auto made = registry.create("good");
    ASSERT_TRUE(made) << made.text();
    transport = std::move(made.value);
  }
  TransportConfig config;
  config.endpoint = "/x";
  const auto initialised = transport->init(config);
  EXPECT_TRUE(initialised) << initialised.text();
  EXPECT_TRUE(has(log_, "info: a driver was made (")) << log_;
}

TEST_F(TransportRegistryTest, TellsPluginsNotToFormatLinesBelowItsLevel) {
  add("good");
  RegistryOptions quiet = options();
  quiet.log_level = LogLevel::warning;
  TransportRegistry registry(std::move(quiet));
  auto made = registry.create("good");
  ASSERT_TRUE(made) << made.text();
  TransportConfig config;
  config.endpoint = "/x";
  EXPECT_TRUE(made.value->init(config));
  EXPECT_EQ(log_, "");
}

TEST_F(TransportRegistryTest, LoadsAFileOnceForAllRegistriesOfTheProcess) {
  add("good");
  TransportRegistry first(options());
  TransportRegistry second(options());
  EXPECT_EQ(first.find("good").value, second.find("good").value);

  // Under another name the same file is the same library; a copy is another one.
  std::filesystem::create_symlink(folder_, temp_.path("alias"));
  TransportRegistry third(options({temp_.path("alias")}));
  EXPECT_EQ(third.find("good").value, first.find("good").value);
  const std::string other = temp_.add_folder("other");
  add("good", "good", other);
  TransportRegistry fourth(options({other}));
  EXPECT_NE(fourth.find("good").value, first.find("good").value);
}

TEST_F(TransportRegistryTest, CanBeUsedFromManyThreads) {
  add("good");
  TransportRegistry registry(options());
  std::vector<std::thread> threads;
  std::vector<const cdmf_plugin*> found(8);
  for (std::size_t i = 0; i < found.size(); ++i) {
    threads.emplace_back([&registry, &found, i] {
      found[i] = registry.find("good").value;
      (void)registry.list();
      (void)registry.types();
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_NE(found[0], nullptr);
  EXPECT_EQ(std::count(found.begin(), found.end(), found[0]), 8);
}

TEST_F(TransportRegistryTest, PrefersWhatIsBuiltIntoTheProgram) {
  add("good");
  TransportRegistry files(options());
  const auto from_file = files.find("good");
  ASSERT_TRUE(from_file) << from_file.text();
  cdmf_plugin descriptor = *from_file.value;
  descriptor.version = "9.9.9";

  RegistryOptions with_builtin = options();
  with_builtin.builtin = {&descriptor};
  TransportRegistry registry(std::move(with_builtin));
  EXPECT_EQ(registry.find("good").value, &descriptor);
  const auto records = registry.list();
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[0].path, "built in");
  EXPECT_EQ(records[0].status, PluginStatus::LOADED);
  EXPECT_EQ(records[1].path, file("good"));
  EXPECT_EQ(records[1].status, PluginStatus::SHADOWED);
  EXPECT_EQ(records[1].reason, "hidden by \"built in\"");
}

TEST_F(TransportRegistryTest, ChecksWhatIsBuiltInToo) {
  cdmf_plugin descriptor{};
  descriptor.type = "mine";
  RegistryOptions with_builtin = options();
  with_builtin.builtin = {&descriptor};
  TransportRegistry registry(std::move(with_builtin));
  const auto found = registry.find("mine");
  EXPECT_EQ(found.error, TransportError::PLUGIN_ERROR);
  EXPECT_TRUE(has(found.error_message, "magic: plugin 0x00000000, host 0x43444d46")) << found.error_message;
}

// ---- Search
// -----------------------------------------------------------------------------------------------------------

TEST_F(TransportRegistryTest, TakesTheFirstFolderAndListsTheOthersAsShadowed) {
  const std::string second = temp_.add_folder("second");
  add("good");
  add("good", "good", second);
  add("good", "extra", second);  // Calls itself "good" inside.
  TransportRegistry registry(options({folder_, second}));
  ASSERT_TRUE(registry.find("good"));

  const auto records = registry.list();
  ASSERT_EQ(records.size(), 3U);
  EXPECT_EQ(records[0].type, "extra");
  EXPECT_EQ(records[0].status, PluginStatus::REFUSED);
  EXPECT_EQ(records[0].reason,
            "does not fit this host: type: plugin \"good\", file name \"extra\"; name the file libcdmf_good.so");
  EXPECT_EQ(records[1].path, file("good"));
  EXPECT_EQ(records[1].status, PluginStatus::LOADED);
  EXPECT_EQ(records[1].plugin, registry.find("good").value);
  EXPECT_EQ(records[2].path, second + "/libcdmf_good.so");
  EXPECT_EQ(records[2].status, PluginStatus::SHADOWED);
  EXPECT_EQ(records[2].reason, "hidden by \"" + file("good") + '"');
}

TEST_F(TransportRegistryTest, DoesNotFallThroughToALaterFolderWhenTheFirstPluginIsBroken) {
  const std::string second = temp_.add_folder("second");
  temp_.write("plugins/libcdmf_good.so", "not a library");
  add("good", "good", second);
  TransportRegistry registry(options({folder_, second}));
  const auto found = registry.find("good");
  EXPECT_EQ(found.error, TransportError::PLUGIN_ERROR);
  EXPECT_EQ(found.error_message, "plugin \"" + file("good") + "\" is not an ELF file; put the built library there");
}

TEST_F(TransportRegistryTest, LooksAgainAfterAFailure) {
  temp_.write("plugins/libcdmf_good.so", "not a library");
  TransportRegistry registry(options());
  EXPECT_FALSE(registry.find("good"));
  std::filesystem::remove(file("good"));
  EXPECT_FALSE(registry.find("good"));
  add("good");
  EXPECT_TRUE(registry.find("good"));
}

TEST_F(TransportRegistryTest, SaysWhereItLookedAndWhatIsNearWhenThereIsNone) {
  add("good");
  TransportRegistry registry(options({folder_, temp_.path("nowhere")}));
  const auto found = registry.find("godo");
  EXPECT_EQ(found.error, TransportError::PLUGIN_ERROR);
  EXPECT_EQ(found.error_message,
            "no plugin of type \"godo\"; did you mean \"good\"?; libcdmf_godo.so was looked for in " + folder_ + ", " +
                temp_.path("nowhere") + " (does not exist)");
  const auto none = TransportRegistry(options({temp_.write("file", "")})).find("good");
  EXPECT_TRUE(has(none.error_message, "/file (is not a folder)")) << none.error_message;
}

TEST_F(TransportRegistryTest, RefusesNamesThatCouldLeaveTheFolder) {
  add("good");
  TransportRegistry registry(options());
  for (const char* name : {"../good", "", "Good", "a/b", "a.so", "good\n", "1a"}) {
    EXPECT_TRUE(has(registry.find(name).error_message, "is no name of a transport type")) << name;
  }
  EXPECT_TRUE(has(registry.find("Good").error_message, "did you mean \"good\"?"));
  EXPECT_TRUE(has(registry.find("pigeon").error_message, "no plugin of type \"pigeon\"; there is good; "));
}

TEST_F(TransportRegistryTest, IgnoresFilesThatAreNamedOtherwise) {
  add("good");
  temp_.write("plugins/libcdmf_good.so.1", "x");
  temp_.write("plugins/good.so", "x");
  temp_.write("plugins/libcdmf_.so", "x");
  temp_.add_folder("plugins/below");
  add("good", "good", folder_ + "/below");
  TransportRegistry registry(options());
  EXPECT_EQ(registry.types(), std::vector<std::string>{"good"});
  EXPECT_EQ(registry.list().size(), 1U);
}

TEST_F(TransportRegistryTest, ReadsTheEnvironmentAfterTheProgramAndBeforeTheFile) {
  const std::string second = temp_.add_folder("second");
  const std::string third = temp_.add_folder("third");
  ::setenv("CDMF_PLUGIN_PATH", (second + ":" + third).c_str(), 1);
  RegistryOptions all = options();
  all.use_environment = true;
  all.search_paths = {temp_.path("fourth"), second};
  TransportRegistry registry(std::move(all));
  EXPECT_EQ(registry.searched_folders(),
            (std::vector<std::string>{folder_, second, third, temp_.path("fourth") + " (does not exist)"}));
}

TEST_F(TransportRegistryTest, RefusesToGuessWhatABadSearchPathMeans) {
  add("good");
  for (const char* text : {"/a::/b", ":/a", "/a:", "relative", "./x"}) {
    ::setenv("CDMF_PLUGIN_PATH", text, 1);
    RegistryOptions with_environment = options();
    with_environment.use_environment = true;
    TransportRegistry registry(std::move(with_environment));
    EXPECT_EQ(registry.problems().size(), 1U) << text;
    const auto found = registry.find("good");
    EXPECT_EQ(found.error, TransportError::INVALID_CONFIG) << text;
    EXPECT_TRUE(has(found.error_message, "CDMF_PLUGIN_PATH names ")) << found.error_message;
  }
  ::setenv("CDMF_PLUGIN_PATH", "", 1);
  RegistryOptions with_environment = options();
  with_environment.use_environment = true;
  EXPECT_TRUE(TransportRegistry(std::move(with_environment)).find("good"));
}

// ---- Safety
// -----------------------------------------------------------------------------------------------------------

TEST_F(TransportRegistryTest, RefusesAFileThatOthersMayWrite) {
  add("good");
  ASSERT_EQ(::chmod(file("good").c_str(), 0666), 0);
  TransportRegistry registry(options());
  EXPECT_EQ(registry.find("good").error_message,
            "plugin \"" + file("good") + "\" is not safe to load: \"" + file("good") +
                "\" is writable by everybody (mode 0666); use chmod go-w, or set 'plugins: { security: warn }'");
}

TEST_F(TransportRegistryTest, RefusesAFolderAboveThatOthersMayWrite) {
  add("good");
  ASSERT_EQ(::chmod(temp_.path().c_str(), 0777), 0);
  TransportRegistry registry(options());
  EXPECT_TRUE(has(registry.find("good").error_message, '"' + temp_.path() + "\" is writable by everybody (mode 0777)"))
      << registry.find("good").error_message;
}

TEST_F(TransportRegistryTest, RefusesAFileOfAnotherUser) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
  add("good");
  ASSERT_EQ(::chown(file("good").c_str(), 12345, 12345), 0);
  TransportRegistry registry(options());
  EXPECT_TRUE(has(registry.find("good").error_message, "belongs to user 12345, who is neither root nor user 0"))
      << registry.find("good").error_message;
}

TEST_F(TransportRegistryTest, LooksBehindASymbolicLink) {
  const std::string real = temp_.add_folder("real");
  add("good", "good", real);
  std::filesystem::create_symlink(real + "/libcdmf_good.so", file("good"));
  EXPECT_TRUE(TransportRegistry(options()).find("good"));
  ASSERT_EQ(::chmod(real.c_str(), 0777), 0);
  EXPECT_TRUE(has(TransportRegistry(options()).find("good").error_message, '"' + real + "\" is writable by everybody"));
}

TEST_F(TransportRegistryTest, WarnsOnceAndLoadsWhenToldSo) {
  add("good");
  ASSERT_EQ(::chmod(folder_.c_str(), 0777), 0);
  RegistryOptions lax = options();
  lax.security = PluginSecurity::WARN;
  TransportRegistry registry(std::move(lax));
  EXPECT_TRUE(registry.find("good"));
  EXPECT_TRUE(registry.find("good"));
  const std::string line = "warning: plugin \"" + file("good") + "\": \"" + folder_ + "\" is writable by everybody";
  EXPECT_TRUE(has(log_, line)) << log_;
  EXPECT_EQ(log_.find(line), log_.rfind(line)) << log_;
}

// ---- Broken plugins
// ---------------------------------------------------------------------------------------------------

TEST_F(TransportRegistryTest, NamesTheFieldThatDoesNotFit) {
  const std::string fit = "does not fit this host: ";
  EXPECT_EQ(refusal("other_type"),
            fit + "type: plugin \"good\", file name \"other_type\"; name the file libcdmf_good.so");
  EXPECT_EQ(refusal("other_magic"),
            fit + "magic: plugin 0x12345678, host 0x43444d46; it is no cdmf plugin, or is damaged");
  EXPECT_EQ(refusal("other_major"), fit +
                                        "abi_major: plugin 2, host 1; ABI version: plugin 2.0, host 1.0; rebuild it "
                                        "with the headers of cdmf 1.x");
  EXPECT_EQ(refusal("small_struct"),
            fit + "struct_size: plugin 16, host at least " + std::to_string(sizeof(cdmf_plugin)) + kAuthor);
  EXPECT_EQ(refusal("short_symbol"), fit + "size of the symbol cdmf_plugin_v1: plugin 4, host at least " +
                                         std::to_string(sizeof(cdmf_plugin)) +
                                         "; its author exports a whole descriptor");
}

TEST_F(TransportRegistryTest, NamesEveryFieldThatDoesNotFit) {
  EXPECT_EQ(refusal("many_faults"),
            "does not fit this host: min_host_minor: plugin 9, host 0; summary is NULL; type: plugin \"another\", file "
            "name \"many_faults\"; sanitizers: plugin MemorySanitizer, host " +
                std::string((sdk::build_flags() & CDMF_BUILD_ASAN) != 0   ? "AddressSanitizer"
                            : (sdk::build_flags() & CDMF_BUILD_TSAN) != 0 ? "ThreadSanitizer"
                                                                          : "none") +
                "; create is NULL; build both with the same sanitizer, or neither");
}

TEST_F(TransportRegistryTest, NamesEveryBadRowOfAPropertyTable) {
  const std::string text = refusal("bad_table");
  for (const char* part : {"properties[1] \"twice\" is there twice",
                           "properties[2] \"too_small\": default_text: 1 is below the minimum 2",
                           "properties[3] \"upside_down\": minimum 4 is above maximum 2",
                           "properties[4] \"bad_limit\": minimum: expected a size",
                           "properties[5] \"no_choice\": choices is empty",
                           "properties[6] \"send_timeout\": the name is taken by a key that every transport has",
                           "properties[7] \"odd\": type 77 is unknown",
                           "properties[8] \"silent\": summary is empty",
                           "properties[9] \"asked_for\": is required, so default_text has no use",
                           "properties[10] \"alias\": CDMF_PROPERTY_ROLE is for BOOL only",
                           "properties[11].name is not snake_case",
                           "properties[12] \"echo\": choices[1] is no word",
                           "properties[12] \"echo\": choices names \"a\" twice",
                           "properties[13] \"bounded\": minimum and maximum are for INT, SIZE and DURATION only",
                           "properties[14] \"open\": default_text is NULL",
                           "properties[15] \"loud\": summary is not one line of UTF-8",
                           "properties[16] \"unsure\": default_text: expected true or false",
                           "properties[17] \"uneven\": default_text: ",
                           "properties[18].name is not snake_case",
                           "properties[19].struct_size: plugin 8, host "}) {
    EXPECT_TRUE(has(text, part)) << part << " is not in: " << text;
  }
  EXPECT_FALSE(has(text, "properties[0]")) << text;
  EXPECT_FALSE(has(text, "properties[20]")) << text;
}

TEST_F(TransportRegistryTest, RefusesATableThatIsMissingOrHasNoEnd) {
  const std::string fit = "does not fit this host: ";
  EXPECT_EQ(refusal("no_table"), fit + "properties is NULL" + kAuthor);
  EXPECT_EQ(refusal("endless_table"),
            fit + "property_count: plugin " + std::to_string(SIZE_MAX) + ", host at most 1024" + kAuthor);
}

TEST_F(TransportRegistryTest, RefusesATypeThatIsNamedLikeAKeyAndTextsOfSeveralLines) {
  EXPECT_EQ(refusal("role"),
            std::string("does not fit this host: summary is not one line of UTF-8; type: \"role\" is the name of a key "
                        "that every transport has") +
                kAuthor);
}

TEST_F(TransportRegistryTest, SaysWhichHostAPluginNeeds) {
  EXPECT_EQ(refusal("newer_host"),
            "does not fit this host: min_host_minor: plugin 7, host 0; use a host of ABI 1.7 or newer");
}

TEST_F(TransportRegistryTest, TellsAMissingSymbolFromThatOfAnotherVersion) {
  EXPECT_EQ(refusal("other_symbol"),
            "does not export cdmf_plugin_v1, but cdmf_plugin_v7: it was built for ABI 7, this "
            "host has 1.0; rebuild it with the headers of cdmf 1.x");
  EXPECT_EQ(refusal("no_symbol"),
            "does not export cdmf_plugin_v1; an author writes CDMF_EXPORT_TRANSPORT(...) once, in "
            "the plugin's entry file");
}

TEST_F(TransportRegistryTest, DoesNotTakeTheSymbolOfADependencyForThePlugins) {
  const std::string text = refusal("borrower");
  EXPECT_TRUE(has(text, "does not export cdmf_plugin_v1; the one found belongs to ")) << text;
  EXPECT_TRUE(has(text, "libcdmf_donor.so")) << text;
}

TEST_F(TransportRegistryTest, KeepsTheLoadersOwnWords) {
  const std::string undefined = refusal("undefined");
  EXPECT_TRUE(has(undefined, "cannot be loaded: ")) << undefined;
  EXPECT_TRUE(has(undefined, "cdmf_test_nobody_defines_this")) << undefined;
  EXPECT_FALSE(has(undefined, "dlerror")) << undefined;
  const std::string missing = refusal("needs_library");
  EXPECT_TRUE(has(missing, "libcdmf_test_vanishing.so")) << missing;
}

TEST_F(TransportRegistryTest, RefusesASanitizerThatItLacksBeforeItEndsTheProcess) {
  if (!std::filesystem::exists(built("sanitized"))) GTEST_SKIP() << "not built with this compiler or sanitizer";
  const std::string text = refusal("sanitized");
  EXPECT_TRUE(has(text, "needs the runtime of AddressSanitizer (libasan.so")) << text;
  EXPECT_TRUE(has(text, "start the program with LD_PRELOAD=libasan.so")) << text;
  EXPECT_TRUE(has(text, "or build the plugin without -fsanitize=address")) << text;
}

TEST_F(TransportRegistryTest, RefusesWhatIsNoLibraryForThisMachine) {
  const std::string good = read_bytes(built("good"));
  const auto refusal_of = [this](const std::string& bytes) {
    temp_.write("plugins/libcdmf_x.so", bytes);
    TransportRegistry registry(options());
    const std::string text = registry.find("x").error_message;
    return text.substr(std::min(text.size(), std::string("plugin \"" + file("x") + "\" ").size()));
  };
  EXPECT_EQ(refusal_of(""), "is empty; copy it there again");
  EXPECT_EQ(refusal_of("#!/bin/sh\n"), "is not an ELF file; put the built library there");
  EXPECT_EQ(refusal_of(good.substr(0, 40)), "is truncated in its header; copy it there again");
  EXPECT_TRUE(has(refusal_of(good.substr(0, 100)), "is truncated: its segment table"))
      << refusal_of(good.substr(0, 100));
  EXPECT_TRUE(has(refusal_of(good.substr(0, 4000)), "is truncated: it has 4000 bytes"));
  std::string machine = good;
  machine[18] = '\xF7';  // e_machine: eBPF, which no host runs on.
  EXPECT_TRUE(has(refusal_of(machine), "is built for another machine: machine machine 247 where this program has "));
  std::string bits = good;
  bits[4] = bits[4] == 1 ? 2 : 1;
  EXPECT_TRUE(has(refusal_of(bits), "is built for another machine: class "));
  std::string program = good;
  program[16] = 2;  // e_type: ET_EXEC.
  EXPECT_EQ(refusal_of(program), "is an ELF file, but no shared library; link it with -shared");
}

// Would catch: a cut that is only noticed by a fault inside the loader.
TEST_F(TransportRegistryTest, RefusesOrLoadsEveryLengthOfAFile) {
  const std::string good = read_bytes(built("good"));
  std::size_t loaded = 0;
  std::size_t refused = 0;
  for (std::size_t length = 0; length < good.size(); length += good.size() / 97) {
    temp_.write("plugins/libcdmf_good.so", good.substr(0, length));
    ASSERT_EQ(::chmod(file("good").c_str(), 0600), 0);
    TransportRegistry registry(options());
    const auto found = registry.find("good");
    ++(found ? loaded : refused);
    EXPECT_TRUE(found || has(found.error_message, "copy it there again")) << length << ": " << found.error_message;
    std::filesystem::remove(file("good"));  // A fresh file each time: writing into a loaded one would be another test.
  }
  EXPECT_GT(refused, 30U);
  EXPECT_GT(loaded, 0U) << "what follows the last segment is not needed";
}

TEST_F(TransportRegistryTest, RefusesWhatIsNoRegularFile) {
  temp_.add_folder("plugins/libcdmf_folder.so");
  ASSERT_EQ(::mkfifo(file("pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink("nothing", file("dangling"));
  std::filesystem::create_symlink("/dev/null", file("device"));
  std::filesystem::create_symlink("libcdmf_loop.so", file("loop"));
  TransportRegistry registry(options());
  EXPECT_TRUE(
      has(registry.find("folder").error_message, "\" is a folder; put the built library there, or a link to it"));
  EXPECT_TRUE(has(registry.find("pipe").error_message, "\" is a pipe; put the built library there"));
  EXPECT_TRUE(has(registry.find("dangling").error_message,
                  "cannot be opened: No such file or directory; let the link point to the built library"));
  EXPECT_TRUE(has(registry.find("device").error_message, "\" is a device; put the built library there"));
  EXPECT_TRUE(has(registry.find("loop").error_message,
                  "cannot be opened: Too many levels of symbolic links; let the "
                  "link point to the built library"));
}

TEST_F(TransportRegistryTest, ListsBrokenPluginsBesideGoodOnes) {
  add("good");
  add("no_symbol");
  temp_.write("plugins/libcdmf_text.so", "hello");
  TransportRegistry registry(options());
  const auto records = registry.list();
  ASSERT_EQ(records.size(), 3U);
  EXPECT_EQ(records[0].status, PluginStatus::LOADED);
  EXPECT_EQ(records[1].status, PluginStatus::REFUSED);
  EXPECT_EQ(records[2].status, PluginStatus::REFUSED);
  EXPECT_EQ(records[2].reason, "is not an ELF file; put the built library there");
  EXPECT_EQ(records[2].plugin, nullptr);
}

TEST_F(TransportRegistryTest, PassesOnWhatADriverSaysWhenItCannotBeMade) {
  add("create_fails");
  add("create_throws");
  TransportRegistry registry(options());
  TransportConfig config;
  config.endpoint = "/orders";
  auto failing = registry.create("create_fails");
  ASSERT_TRUE(failing) << failing.text();
  const auto failed = failing.value->init(config);
  EXPECT_EQ(failed.error, TransportError::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(has(failed.error_message, "no room for \"/orders\"")) << failed.error_message;

  auto throwing = registry.create("create_throws");
  ASSERT_TRUE(throwing) << throwing.text();
  const auto thrown = throwing.value->init(config);
  EXPECT_EQ(thrown.error, TransportError::INTERNAL_ERROR);
  EXPECT_TRUE(has(thrown.error_message, "no driver today")) << thrown.error_message;
}

}  // namespace
}  // namespace cdmf::ipc
