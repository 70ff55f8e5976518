// `cdmf doctor` on endpoints that are well, and on some made sick on purpose.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <optional>

#include "cli/yaml_word.h"
#include "ipc/transport_registry.h"
#include "program.h"

namespace cdmf::ipc::test {
namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

class Doctor : public testing::Test {
 protected:
  void TearDown() override {
    for (auto* program : {&server_, &client_}) {
      if (!*program || !(*program)->running()) continue;
      kill((*program)->pid(), SIGCONT);
      kill((*program)->pid(), SIGKILL);
    }
    for (const int fd : fds_) close(fd);
    remove_objects(file_);
  }
  void pipe_into(int (&ends)[2]) {
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    fds_.insert(fds_.end(), {ends[0], ends[1]});
  }
  /// Examines until the answer contains `part`. What the last answer was.
  Finished examine_until(const std::string& part) {
    const auto deadline = std::chrono::steady_clock::now() + kWatchdog;
    Finished answer;
    do {
      answer = run(folder_, {"doctor", file_, "--for", "300ms"});
    } while (!contains(answer.output, part) && std::chrono::steady_clock::now() < deadline);
    return answer;
  }

  TestFolder folder_;
  std::string file_ = shipped_config(folder_, "shm");
  std::optional<Program> server_;
  std::optional<Program> client_;
  std::vector<int> fds_;
};

TEST_F(Doctor, FindsNothingWrongWithAServerThatWaits) {
  server_.emplace(folder_, "server", std::vector<std::string>{"run", file_});
  ASSERT_TRUE(server_->wait_for_output("ready"));
  const auto answer = run(folder_, {"doctor", file_, "--for", "200ms"});
  EXPECT_EQ(answer.code, 0) << answer.output << answer.errors;
  for (const char* branch : {"high latency", "low throughput", "buffer full", "CAS contention"}) {
    EXPECT_TRUE(contains(answer.output, std::string(branch) + ": nothing found")) << answer.output;
  }
}

class DoctorOfSegments : public Doctor, public testing::WithParamInterface<bool> {};

TEST_P(DoctorOfSegments, NamesTheConsumerThatTakesNothing) {
  if (GetParam()) file_ = object_config(folder_);
  // The receiver's output goes into a pipe that nobody reads, the sender's input never ends.
  int output[2];
  pipe_into(output);
  const std::string noise = folder_.write_noise("noise", 16 << 20);
  server_.emplace(folder_, "server", std::vector<std::string>{"recv", file_, "--raw"}, Streams{.output_fd = output[1]});
  client_.emplace(folder_, "client", std::vector<std::string>{"send", file_, "--raw"}, Streams{.input = noise});
  const auto answer = examine_until("buffer full: FOUND");
  EXPECT_EQ(answer.code, 1) << answer.output << answer.errors;
  EXPECT_TRUE(contains(answer.output, "buffer full: FOUND")) << answer.output;
  EXPECT_TRUE(contains(answer.output, "ring TX to the server")) << answer.output;
  EXPECT_TRUE(contains(answer.output, "pid " + std::to_string(client_->pid()))) << answer.output;
}
INSTANTIATE_TEST_SUITE_P(Segments, DoctorOfSegments, testing::Values(false, true),
                         [](const auto& test) { return test.param ? "posix" : "memfd"; });

TEST_F(Doctor, NoticesThatBothEndsHaveOneCpu) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &before)) continue;
    CPU_SET(cpu, &one);
    break;
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);  // Children have it as well.
  int input[2];
  pipe_into(input);
  server_.emplace(folder_, "server", std::vector<std::string>{"recv", file_});
  client_.emplace(folder_, "client", std::vector<std::string>{"send", file_}, Streams{.input_fd = input[0]});
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
  const auto answer = examine_until("high latency: FOUND");
  EXPECT_EQ(answer.code, 1) << answer.output << answer.errors;
  EXPECT_TRUE(contains(answer.output, "both ends may only run on CPU")) << answer.output;
}

/// A process that only receives from a pool, or only sends as fast as it can.
pid_t start_member(const std::string& endpoint, Role role) {
  const pid_t member = fork();
  if (member != 0) return member;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  RegistryOptions options;
  options.security = PluginSecurity::WARN;
  options.log = [](LogLevel, std::string_view) {};
  TransportRegistry registry(options);
  auto made = registry.create("shm");
  TransportConfig config;
  config.endpoint = endpoint;
  config.role = role;
  config.max_message_size = 64;
  config.connect_timeout = std::chrono::duration_cast<std::chrono::milliseconds>(kWatchdog);
  config.properties = {{"ring_type", "mpmc"}, {"wait", "yield"}};
  if (!made.success() || !made.value->init(config).success()) _exit(1);
  made.value->setViewCallback([](const MessageView&) {});
  if (!made.value->start().success() || !made.value->connect().success()) _exit(2);
  MessageView message;
  const std::array<std::byte, 8> payload{};
  message.payload = payload;
  for (;;) {
    if (role == Role::SERVER) {
      pause();
    } else {
      (void)made.value->send(message, {.timeout = std::chrono::nanoseconds(0)});
    }
  }
}

TEST_F(Doctor, SaysHowOftenMembersOfAPoolLoseToEachOther) {
  file_ = object_config(folder_, "ring_type: mpmc");
  const std::string endpoint = cli::value_of(read_file(file_), "endpoint");
  std::vector<pid_t> members{start_member(endpoint, Role::SERVER)};
  for (int i = 0; i < 3; ++i) members.push_back(start_member(endpoint, Role::CLIENT));
  // A figure, or a finding where there are many processors.
  Finished answer;
  const auto said = [&] {
    return contains(answer.output, "per message)") || contains(answer.output, "CAS contention: FOUND");
  };
  const auto deadline = std::chrono::steady_clock::now() + kWatchdog;
  while (!said() && std::chrono::steady_clock::now() < deadline) {
    answer = run(folder_, {"doctor", file_, "--for", "300ms"});
  }
  EXPECT_TRUE(said()) << answer.output << answer.errors;
  for (const pid_t member : members) kill(member, SIGKILL);
  for (const pid_t member : members) EXPECT_EQ(waitpid(member, nullptr, 0), member);
}

TEST_F(Doctor, ExitsWithTwoWhenItCannotLook) {
  const auto nobody = run(folder_, {"doctor", file_});
  EXPECT_EQ(nobody.code, 2);
  EXPECT_TRUE(contains(nobody.errors, "ENDPOINT_NOT_FOUND")) << nobody.errors;
  server_.emplace(folder_, "server", std::vector<std::string>{"run", file_});
  ASSERT_TRUE(server_->wait_for_output("ready"));
  server_->freeze();
  const auto stopped = run(folder_, {"doctor", file_});
  EXPECT_EQ(stopped.code, 2);
  EXPECT_TRUE(contains(stopped.errors, "which is stopped")) << stopped.errors;
}

TEST_F(Doctor, WrongWordsAreExitCodeTwo) {
  const std::vector<std::vector<std::string>> wrong{{"doctor"},
                                                    {"doctor", file_, "--for", "0"},
                                                    {"doctor", file_, "--for", "5"},
                                                    {"doctor", file_, "--for", "2h"},
                                                    {"doctor", file_, "--transport", "other"},
                                                    {"doctor", file_, "--type", "shm"},
                                                    {"doctor", "/x", "--transport", "main"},
                                                    {"doctor", folder_.path("missing.yaml")}};
  for (const auto& words : wrong) {
    const auto refused = run(folder_, words);
    EXPECT_EQ(refused.code, 2) << testing::PrintToString(words) << refused.errors;
    EXPECT_NE(refused.errors, "");
    EXPECT_EQ(refused.output, "");
  }
}

}  // namespace
}  // namespace cdmf::ipc::test
