#pragma once
// runtime_directory.h: an XDG_RUNTIME_DIR of the test's own, so that tests neither meet each other nor a real server.
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace cdmf::ipc::unix_socket::test {

class RuntimeDirectory {
 public:
  RuntimeDirectory() {
    char name[] = "/tmp/cdmf-test-XXXXXX";
    if (mkdtemp(name) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = name;
    setenv("XDG_RUNTIME_DIR", name, 1);
  }
  ~RuntimeDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
    unsetenv("XDG_RUNTIME_DIR");
  }
  RuntimeDirectory(const RuntimeDirectory&) = delete;
  RuntimeDirectory& operator=(const RuntimeDirectory&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/cdmf/" + name; }

 private:
  std::string path_;
};

}  // namespace cdmf::ipc::unix_socket::test
