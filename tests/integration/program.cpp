#include "program.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <stdexcept>
#include <thread>

#include "cli/yaml_word.h"

namespace cdmf::ipc::test {
namespace {

using Clock = std::chrono::steady_clock;

std::string required_variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) throw std::runtime_error(std::string(name) + " is not set; run this test with ctest");
  return value;
}

int open_or_throw(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, 0600);
  if (fd < 0) throw std::runtime_error("cannot open " + path);
  return fd;
}

cli::ChildProcess start(const std::vector<std::string>& words, const Streams& streams, const std::string& output_path,
                        const std::string& error_path) {
  cli::StandardStreams standard;
  const bool own_input = streams.input_fd < 0;
  const bool own_output = streams.output_fd < 0;
  standard.input =
      own_input ? open_or_throw(streams.input.empty() ? "/dev/null" : streams.input, O_RDONLY) : streams.input_fd;
  standard.output = own_output ? open_or_throw(output_path, O_WRONLY | O_CREAT | O_TRUNC) : streams.output_fd;
  standard.error = open_or_throw(error_path, O_WRONLY | O_CREAT | O_TRUNC);
  auto child = cli::ChildProcess::run(required_variable("CDMF_BINARY"), words, standard);
  if (own_input) ::close(standard.input);
  if (own_output) ::close(standard.output);
  ::close(standard.error);
  return child;
}

}  // namespace

TestFolder::TestFolder() {
  folder_ = (std::filesystem::temp_directory_path() / "cdmf-test-XXXXXX").string();
  if (mkdtemp(folder_.data()) == nullptr) throw std::runtime_error("cannot make a folder for the test");
}

TestFolder::~TestFolder() {
  std::error_code ignored;  // A leftover in the temporary folder fails nobody.
  std::filesystem::remove_all(folder_, ignored);
}

std::string TestFolder::write(const std::string& name, const std::string& text) const {
  std::ofstream(path(name), std::ios::binary) << text;
  return path(name);
}

std::string TestFolder::write_noise(const std::string& name, std::size_t size_bytes) const {
  std::mt19937_64 random(std::random_device{}());
  std::vector<std::uint64_t> words(std::size_t{1} << 16);
  std::ofstream file(path(name), std::ios::binary);
  for (std::size_t left = size_bytes; left > 0;) {
    for (auto& word : words) word = random();
    const std::size_t size = std::min(left, words.size() * sizeof words[0]);
    file.write(reinterpret_cast<const char*>(words.data()), static_cast<std::streamsize>(size));
    left -= size;
  }
  return path(name);
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string shipped_config(const TestFolder& folder, const std::string& type) {
  static std::atomic<int> count{0};
  const std::string file = type == "grpc" ? "/grpc.yaml" : "/loopback.yaml";
  const std::string shipped = read_file(required_variable("CDMF_CONFIG_DIR") + file);
  const std::string endpoint = "/cdmf_test_" + std::to_string(getpid()) + "_" + std::to_string(count++);
  const std::string path = folder.write(type + ".yaml", cli::replace_value(shipped, "endpoint", endpoint));
  auto sed = cli::ChildProcess::run("/usr/bin/env", {"sed", "-i", "s/^\\( *type: \\)[a-z_]*/\\1" + type + "/", path});
  const auto status = sed.wait_for(kWatchdog);
  EXPECT_TRUE(status && status->success()) << "sed failed";
  EXPECT_EQ(cli::value_of(read_file(path), "type"), type);
  return path;
}

std::string object_config(const TestFolder& folder, const std::string& options) {
  static std::atomic<int> count{0};
  const std::string number = std::to_string(getpid()) + "_" + std::to_string(count++);
  return folder.write("object_" + number + ".yaml",
                      "version: 1\ntransports:\n  main:\n    type: shm\n    endpoint: /cdmf_test_object_" + number +
                          "\n    shm: {" + options + "}\n");
}

void remove_objects(const std::string& file) {
  const std::string object = "/dev/shm" + cli::value_of(read_file(file), "endpoint");
  for (const char* suffix : {"", ".pool"}) std::filesystem::remove(object + suffix);
}

std::string sha256(const std::string& path) {
  const std::string sums = path + ".sha256";
  const int output = open_or_throw(sums, O_WRONLY | O_CREAT | O_TRUNC);
  auto sum = cli::ChildProcess::run("/usr/bin/env", {"sha256sum", path}, {.output = output});
  ::close(output);
  const auto status = sum.wait_for(kWatchdog);
  EXPECT_TRUE(status && status->success()) << "sha256sum failed";
  return read_file(sums).substr(0, 64);
}

Program::Program(const TestFolder& folder, const std::string& name, const std::vector<std::string>& words,
                 Streams streams)
    : output_path_(folder.path(name + ".out")),
      error_path_(folder.path(name + ".err")),
      child_(start(words, streams, output_path_, error_path_)) {}

void Program::freeze() {
  siginfo_t stopped{};
  ASSERT_EQ(kill(pid(), SIGSTOP), 0);
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid()), &stopped, WSTOPPED | WNOWAIT), 0);
}

int Program::wait() {
  const auto status = child_.wait_for(kWatchdog);
  if (!status) {
    ADD_FAILURE() << "cdmf does not end; it said: " << errors();
    child_.kill();
    return -1;
  }
  return status->signaled ? 128 + status->value : status->value;
}

bool Program::wait_for_output(const std::string& text) {
  const auto deadline = Clock::now() + kWatchdog;
  while (output().find(text) == std::string::npos) {
    if (Clock::now() > deadline || child_.wait_for(std::chrono::milliseconds(2))) {
      return output().find(text) != std::string::npos;
    }
  }
  return true;
}

Finished run(const TestFolder& folder, const std::vector<std::string>& words, Streams streams) {
  Program program(folder, "run", words, streams);
  Finished finished;
  finished.code = program.wait();
  finished.output = program.output();
  finished.errors = program.errors();
  return finished;
}

}  // namespace cdmf::ipc::test
