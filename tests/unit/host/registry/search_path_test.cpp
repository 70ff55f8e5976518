#include "registry/search_path.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "unit/host/temp_folder.h"

namespace cdmf::ipc::registry {
namespace {

TEST(SearchPath, EndsBesideTheProgramAndWhereItWasInstalled) {
  ::unsetenv("CDMF_PLUGIN_PATH");
  RegistryOptions options;
  options.plugin_paths = {"/first"};
  const SearchPath path = make_search_path(options);
  EXPECT_TRUE(path.problems.empty());
  const auto program = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  const auto beside = std::filesystem::weakly_canonical(program / ".." / "plugins").string();
  ASSERT_GE(path.folders.size(), 3U);
  EXPECT_EQ(path.folders[0].path, "/first");
  EXPECT_FALSE(path.folders[0].optional);
  EXPECT_EQ(path.folders[1].path, beside);
  EXPECT_TRUE(path.folders[1].optional);
  EXPECT_EQ(path.folders.back().origin, "installation folder");
}

TEST(SearchPath, NamesEachFolderOnce) {
  const TempFolder temp;
  const std::string real = temp.add_folder("real");
  std::filesystem::create_symlink(real, temp.path("alias"));
  RegistryOptions options;
  options.use_environment = false;
  options.use_default_folders = false;
  options.plugin_paths = {real, temp.path("alias"), real + "/", temp.path("real/../real"), "/nowhere/x/../y"};
  const SearchPath path = make_search_path(options);
  ASSERT_EQ(path.folders.size(), 2U);
  EXPECT_EQ(path.folders[0].path, real);
  EXPECT_EQ(path.folders[1].path, "/nowhere/y");
}

TEST(SearchPath, TakesRelativeFoldersFromTheProgramOnly) {
  RegistryOptions options;
  options.use_environment = false;
  options.use_default_folders = false;
  options.plugin_paths = {"here"};
  options.search_paths = {"there"};
  const SearchPath path = make_search_path(options);
  ASSERT_EQ(path.folders.size(), 1U);
  EXPECT_EQ(path.folders[0].path, (std::filesystem::canonical(".") / "here").string());
  ASSERT_EQ(path.problems.size(), 1U);
  EXPECT_EQ(path.problems[0], "plugins.search_paths names \"there\", which is not absolute; start it with '/'");
}

TEST(PluginFileName, HoldsTheType) {
  EXPECT_EQ(type_of_file("libcdmf_unix_socket.so"), "unix_socket");
  EXPECT_EQ(type_of_file(file_of_type("shm")), "shm");
  for (const char* name : {"libcdmf_.so", "libcdmf_shm", "libcdmf_shm.so.1", "cdmf_shm.so", "libcdmf_Shm.so",
                           "libcdmf_9.so", "libcdmf_a-b.so", "libcdmf_so", "libcdmf.so", ""}) {
    EXPECT_EQ(type_of_file(name), std::nullopt) << name;
  }
  EXPECT_TRUE(is_type_name(std::string(64, 'a')));
  EXPECT_FALSE(is_type_name(std::string(65, 'a')));
}

}  // namespace
}  // namespace cdmf::ipc::registry
