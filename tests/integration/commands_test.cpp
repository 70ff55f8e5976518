// The program's words: help, exit codes, check and plugins.
#include <gtest/gtest.h>

#include "program.h"

namespace cdmf::ipc::test {
namespace {

class Commands : public testing::Test {
 protected:
  TestFolder folder_;
};

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST_F(Commands, EveryCommandHasHelpOnStandardOutput) {
  const std::vector<std::vector<std::string>> commands{{},
                                                       {"run"},
                                                       {"recv"},
                                                       {"send"},
                                                       {"plugins"},
                                                       {"plugins", "list"},
                                                       {"plugins", "inspect"},
                                                       {"plugins", "doc"},
                                                       {"check"},
                                                       {"conform"},
                                                       {"bench"},
                                                       {"size"},
                                                       {"inspect"},
                                                       {"doctor"},
                                                       {"demo"}};
  for (auto words : commands) {
    words.push_back("--help");
    const auto help = run(folder_, words);
    EXPECT_EQ(help.code, 0) << words.front();
    EXPECT_TRUE(contains(help.output, "Usage:")) << help.output;
    EXPECT_EQ(help.errors, "") << words.front();
  }
}

TEST_F(Commands, HelpNamesEveryCommandButNotTheInnerOne) {
  const auto help = run(folder_, {"--help"});
  for (const char* command :
       {"run", "recv", "send", "plugins", "check", "conform", "bench", "size", "inspect", "doctor", "demo"}) {
    EXPECT_TRUE(contains(help.output, std::string("\n  ") + command + " ")) << command;
  }
  EXPECT_FALSE(contains(help.output, "bench-peer"));
  EXPECT_TRUE(contains(help.output, "Exit codes"));
}

TEST_F(Commands, WrongWordsAreExitCodeTwoWithAReasonOnStandardError) {
  const std::string config = shipped_config(folder_, "loopback");
  const std::vector<std::vector<std::string>> commands{
      {},
      {"nonsense"},
      {"send"},
      {"check"},
      {"plugins"},
      {"plugins", "doc", "loopback", "--format", "html"},
      {"bench", "--config", config, "--size", "64"},
      {"bench", "--config", config, "--pattern", "sideways", "--size", "64"},
      {"bench", "--config", config, "--pattern", "stream", "--size", "0"},
      {"bench", "--config", config, "--pattern", "stream", "--size", "64 lines"},
      {"bench", "--config", config, "--pattern", "stream", "--size", "64", "--rounds", "0"},
      {"bench", "--config", config, "--pattern", "pingpong", "--size", "1000000000"},
      {"recv", config, "--transport", "other"},
      {"--log-level", "loud", "check", config}};
  for (const auto& words : commands) {
    const auto refused = run(folder_, words);
    EXPECT_EQ(refused.code, 2) << testing::PrintToString(words) << refused.errors;
    EXPECT_NE(refused.errors, "") << testing::PrintToString(words);
    EXPECT_EQ(refused.output, "") << testing::PrintToString(words);
  }
}

TEST_F(Commands, VersionIsPrinted) {
  const auto version = run(folder_, {"--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_EQ(version.output.rfind("cdmf ", 0), 0u) << version.output;
}

TEST_F(Commands, CheckAcceptsEveryShippedConfiguration) {
  const std::string config_folder = std::getenv("CDMF_CONFIG_DIR");
  const auto checked = run(folder_, {"check", config_folder + "/loopback.yaml", config_folder + "/unix_socket.yaml",
                                     config_folder + "/shm.yaml", config_folder + "/reference.yaml"});
  EXPECT_EQ(checked.code, 0) << checked.errors;
  EXPECT_EQ(checked.errors, "");
  EXPECT_TRUE(contains(checked.output, "shm.yaml: ok")) << checked.output;
}

TEST_F(Commands, CheckPrintsAllProblemsOfAllFilesWithTheirPlaces) {
  const std::string good = shipped_config(folder_, "loopback");
  const std::string wrong = folder_.write("wrong.yaml",
                                          "version: 1\n"
                                          "transports:\n"
                                          "  main:\n"
                                          "    type: loopback\n"
                                          "    endpont: /x\n"
                                          "    max_message_size: 64 apples\n");
  const std::string torn = folder_.write("torn.yaml", "version: [1\n");
  const auto checked = run(folder_, {"check", wrong, good, torn, folder_.path("missing.yaml")});
  EXPECT_EQ(checked.code, 1);
  EXPECT_TRUE(contains(checked.errors, wrong + ":5:5")) << checked.errors;
  EXPECT_TRUE(contains(checked.errors, "endpoint")) << checked.errors;
  EXPECT_TRUE(contains(checked.errors, wrong + ":6:")) << checked.errors;
  EXPECT_TRUE(contains(checked.errors, torn + ":")) << checked.errors;
  EXPECT_TRUE(contains(checked.errors, "missing.yaml")) << checked.errors;
  EXPECT_TRUE(contains(checked.output, good + ": ok")) << checked.output;
}

TEST_F(Commands, EveryCommandRefusesAWrongFileWithExitCodeOne) {
  const std::string wrong =
      folder_.write("wrong.yaml", "version: 1\ntransports:\n  main:\n    type: pigeon\n    endpoint: /x\n");
  for (const std::vector<std::string>& words : {std::vector<std::string>{"run", wrong},
                                                {"recv", wrong},
                                                {"send", wrong},
                                                {"bench", "--config", wrong, "--pattern", "stream", "--size", "64"}}) {
    const auto refused = run(folder_, words);
    EXPECT_EQ(refused.code, 1) << words.front();
    EXPECT_TRUE(contains(refused.errors, wrong + ":4:")) << refused.errors;
    EXPECT_TRUE(contains(refused.errors, "pigeon")) << refused.errors;
  }
}

TEST_F(Commands, ConformHasOneExitCodeForEveryPluginThatCannotBeTested) {
  const std::string absent = folder_.path("libcdmf_absent.so");
  const std::string misnamed = folder_.write("pigeon.so", "no library");
  const std::string refused_by_host = folder_.write("libcdmf_pigeon.so", "no library");
  const std::pair<std::string, const char*> cases[] = {
      {absent, "no such file"}, {misnamed, "libcdmf_<type>.so"}, {refused_by_host, "ELF"}};
  for (const auto& [path, reason] : cases) {
    const auto refused = run(folder_, {"conform", path});
    EXPECT_EQ(refused.code, 1) << path << "\n" << refused.errors;
    EXPECT_TRUE(contains(refused.errors, path)) << refused.errors;
    EXPECT_TRUE(contains(refused.errors, reason)) << refused.errors;
    EXPECT_EQ(refused.output, "") << path;
  }
  // Words without sense are another matter.
  EXPECT_EQ(run(folder_, {"conform"}).code, 2);
  EXPECT_EQ(run(folder_, {"conform", "--filter", "No.Such", absent}).code, 2);
}

TEST_F(Commands, PluginsListShowsWhatThisBuildHas) {
  const auto list = run(folder_, {"plugins", "list"});
  EXPECT_EQ(list.code, 0) << list.errors;
  for (const char* type : {"loopback", "unix_socket", "shm"}) {
    EXPECT_TRUE(contains(list.output, std::string("\n") + type + " ")) << type << "\n" << list.output;
  }
}

TEST_F(Commands, PluginsListSaysWhichNamedFolderCannotBeLookedInto) {
  const auto list = run(folder_, {"--plugin-path", folder_.path("nowhere"), "plugins", "list"});
  EXPECT_EQ(list.code, 0) << list.errors;
  EXPECT_TRUE(contains(list.errors, "nowhere, named by plugin path: does not exist")) << list.errors;
}

TEST_F(Commands, PluginsListAllNamesTheReasonOfARefusal) {
  folder_.write("libcdmf_broken.so", "this is no library");
  const auto quiet = run(folder_, {"--plugin-path", folder_.path(""), "plugins", "list"});
  EXPECT_EQ(quiet.code, 0);
  EXPECT_FALSE(contains(quiet.output, "libcdmf_broken.so"));
  EXPECT_TRUE(contains(quiet.errors, "--all")) << quiet.errors;
  const auto all = run(folder_, {"--plugin-path", folder_.path(""), "plugins", "list", "--all"});
  EXPECT_EQ(all.code, 0);
  EXPECT_TRUE(contains(all.output, "broken refused")) << all.output;
  EXPECT_TRUE(contains(all.output, "libcdmf_broken.so")) << all.output;
}

TEST_F(Commands, PluginsInspectAndDocDescribeOnePlugin) {
  const auto inspect = run(folder_, {"plugins", "inspect", "shm"});
  EXPECT_EQ(inspect.code, 0) << inspect.errors;
  EXPECT_TRUE(contains(inspect.output, "libcdmf_shm.so")) << inspect.output;
  EXPECT_TRUE(contains(inspect.output, "between processes")) << inspect.output;
  for (const char* format : {"text", "markdown", "yaml"}) {
    const auto doc = run(folder_, {"plugins", "doc", "shm", "--format", format});
    EXPECT_EQ(doc.code, 0) << doc.errors;
    EXPECT_TRUE(contains(doc.output, "ring_buffer_capacity")) << format;
  }
  const auto unknown = run(folder_, {"plugins", "inspect", "pigeon"});
  EXPECT_EQ(unknown.code, 1);
  EXPECT_TRUE(contains(unknown.errors, "pigeon")) << unknown.errors;
}

TEST_F(Commands, TheYamlOfPluginsDocIsAValidSection) {
  for (const char* type : {"loopback", "unix_socket", "shm"}) {
    const auto doc = run(folder_, {"plugins", "doc", type, "--format", "yaml"});
    std::string section;
    for (std::size_t at = 0; at < doc.output.size();) {
      const std::size_t end = doc.output.find('\n', at);
      section += "    " + doc.output.substr(at, end - at) + "\n";
      at = end + 1;
    }
    const std::string file = folder_.write("doc.yaml", std::string("version: 1\ntransports:\n  main:\n    type: ") +
                                                           type + "\n    endpoint: /x\n" + section);
    const auto checked = run(folder_, {"check", file});
    EXPECT_EQ(checked.code, 0) << type << "\n" << checked.errors << read_file(file);
  }
}

TEST_F(Commands, SendAndRecvOnATransportOfOneProcessSayWhyTheyCannot) {
  const std::string config = shipped_config(folder_, "loopback");
  for (const char* command : {"send", "recv"}) {
    const auto refused = run(folder_, {command, config});
    EXPECT_EQ(refused.code, 1);
    EXPECT_TRUE(contains(refused.errors, "UNSUPPORTED")) << refused.errors;
    EXPECT_TRUE(contains(refused.errors, "one process")) << refused.errors;
  }
}

TEST_F(Commands, SeveralTransportsNeedAChoice) {
  const std::string file = folder_.write("two.yaml",
                                         "version: 1\n"
                                         "transports:\n"
                                         "  first: { type: unix_socket, endpoint: /cdmf_first }\n"
                                         "  second: { type: unix_socket, endpoint: /cdmf_second }\n");
  const auto refused = run(folder_, {"recv", file});
  EXPECT_EQ(refused.code, 2);
  EXPECT_TRUE(contains(refused.errors, "first, second")) << refused.errors;
}

}  // namespace
}  // namespace cdmf::ipc::test
