// `cdmf inspect`: a running server, seen by a process that has nothing to do with it.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <chrono>
#include <functional>

#include "program.h"

namespace cdmf::ipc::test {
namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// The name of the endpoint in a file.
std::string endpoint_of(const std::string& file) {
  return YAML::LoadFile(file)["transports"]["main"]["endpoint"].as<std::string>();
}

class Inspect : public testing::Test {
 protected:
  /// A receiver, and a sender that has sent `text` and stays.
  void start() {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);  // A copy in the sender would keep its input from ending.
    input_ = ends[1];
    receiver_.emplace(folder_, "recv", std::vector<std::string>{"recv", file_});
    ASSERT_TRUE(looks_until([](const YAML::Node&) { return true; }));
    sender_.emplace(folder_, "send", std::vector<std::string>{"send", file_}, Streams{.input_fd = ends[0]});
    close(ends[0]);
    ASSERT_EQ(write(input_, "one\ntwo\nthree\n", 14), 14);
  }
  void TearDown() override {
    if (input_ >= 0) close(input_);
    if (receiver_ && receiver_->running()) kill(receiver_->pid(), SIGCONT);
    if (receiver_ && receiver_->running()) kill(receiver_->pid(), SIGKILL);
    if (sender_ && sender_->running()) kill(sender_->pid(), SIGKILL);
    remove_objects(file_);
  }
  /// Looks until it is so. False: it never was.
  bool looks_until(const std::function<bool(const YAML::Node&)>& so) {
    const auto deadline = std::chrono::steady_clock::now() + kWatchdog;
    while (std::chrono::steady_clock::now() < deadline) {
      const auto seen = run(folder_, {"inspect", file_, "--json"});
      if (seen.code == 0) {
        last_ = YAML::Load(seen.output);
        if (so(last_)) return true;
      }
    }
    return false;
  }

  TestFolder folder_;
  std::string file_ = shipped_config(folder_, "shm");
  std::optional<Program> receiver_;
  std::optional<Program> sender_;
  int input_ = -1;
  YAML::Node last_;
};

TEST_F(Inspect, ShowsLinksRingsAndProcessesOfARunningServer) {
  start();
  ASSERT_TRUE(looks_until([](const YAML::Node& seen) {
    return seen["links"].size() == 1 && seen["links"][0]["rings"][0]["total_pops"].as<int>() >= 3;
  })) << YAML::Dump(last_);
  EXPECT_EQ(last_["type"].as<std::string>(), "shm");
  EXPECT_EQ(last_["pid"].as<pid_t>(), receiver_->pid());
  EXPECT_EQ(last_["wait"].as<std::string>(), "adaptive");
  EXPECT_EQ(last_["accepted"].as<int>(), 1);
  const YAML::Node link = last_["links"][0];
  EXPECT_EQ(link["pid"].as<pid_t>(), sender_->pid());
  EXPECT_EQ(link["uid"].as<uid_t>(), geteuid());
  EXPECT_FALSE(link["ended"].as<bool>());
  ASSERT_EQ(link["rings"].size(), 2u);
  const YAML::Node ring = link["rings"][0];
  EXPECT_EQ(ring["to"].as<std::string>(), "server");
  EXPECT_EQ(ring["capacity_bytes"].as<int>(), 4096 * 512);
  EXPECT_GE(ring["total_pushes"].as<int>(), 3);
  EXPECT_EQ(ring["failed_pushes"].as<int>(), 0);
  EXPECT_EQ(ring["drop_rate"].as<double>(), 0);
  EXPECT_TRUE(ring["aligned"].as<bool>());
  EXPECT_TRUE(ring["plausible"].as<bool>());
  // The same as a table, and by the endpoint's name alone.
  for (const auto& words : {std::vector<std::string>{"inspect", file_, "--transport", "main"},
                            std::vector<std::string>{"inspect", endpoint_of(file_)},
                            std::vector<std::string>{"inspect", endpoint_of(file_), "--type", "shm"}}) {
    const auto table = run(folder_, words);
    EXPECT_EQ(table.code, 0) << table.errors;
    for (const char* part : {"HIGH WATER", "UTILISATION", "DROP RATE", "2097152", "clients: 1 now, 1 accepted"}) {
      EXPECT_TRUE(contains(table.output, part)) << part << "\n" << table.output;
    }
    EXPECT_TRUE(contains(table.output, std::to_string(sender_->pid()))) << table.output;
  }
}

TEST_F(Inspect, IsNotNoticedByTheReceiver) {
  start();
  ASSERT_TRUE(looks_until([](const YAML::Node& seen) { return seen["links"].size() == 1; }));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(run(folder_, {"inspect", file_}).code, 0);
  close(input_);
  input_ = -1;
  EXPECT_EQ(sender_->wait(), 0) << sender_->errors();
  EXPECT_EQ(receiver_->wait(), 0) << receiver_->errors();
  EXPECT_EQ(receiver_->output(), "one\ntwo\nthree\n");
}

TEST_F(Inspect, WatchesUntilItIsInterruptedOrTheServerIsGone) {
  start();
  Program watch(folder_, "watch", {"inspect", file_, "--watch", "0.05", "--json"});
  ASSERT_TRUE(watch.wait_for_output("}\n{"));
  kill(watch.pid(), SIGINT);
  EXPECT_EQ(watch.wait(), 0) << watch.errors();
  Program table(folder_, "table", {"inspect", endpoint_of(file_), "--watch", "0.05"});
  ASSERT_TRUE(table.wait_for_output("PUSHED/S"));
  kill(receiver_->pid(), SIGKILL);
  EXPECT_EQ(table.wait(), 1);
  EXPECT_TRUE(contains(table.errors(), "ENDPOINT_NOT_FOUND") || contains(table.errors(), "hung up")) << table.errors();
}

TEST_F(Inspect, SaysThatAServerIsStopped) {
  start();
  receiver_->freeze();
  const auto seen = run(folder_, {"inspect", file_});
  kill(receiver_->pid(), SIGCONT);
  EXPECT_EQ(seen.code, 1);
  EXPECT_TRUE(contains(seen.errors, "TIMEOUT")) << seen.errors;
  EXPECT_TRUE(contains(seen.errors, std::to_string(receiver_->pid()) + ", which is stopped")) << seen.errors;
}

TEST_F(Inspect, SeesAServerOverANamedObjectAlsoWhenItIsStopped) {
  file_ = object_config(folder_);
  start();
  ASSERT_TRUE(looks_until([](const YAML::Node& seen) {
    return seen["links"].size() == 1 && seen["links"][0]["rings"][0]["total_pops"].as<int>() >= 3;
  })) << YAML::Dump(last_);
  EXPECT_EQ(last_["pid"].as<pid_t>(), receiver_->pid());
  EXPECT_EQ(last_["accepted"].as<int>(), 1);
  EXPECT_EQ(last_["links"][0]["pid"].as<pid_t>(), sender_->pid());
  receiver_->freeze();
  EXPECT_TRUE(looks_until([](const YAML::Node& seen) {
    return contains(seen["detail"].as<std::string>(), "the server is stopped");
  })) << YAML::Dump(last_);
  const auto table = run(folder_, {"inspect", endpoint_of(file_)});
  EXPECT_EQ(table.code, 0) << table.errors;
  EXPECT_TRUE(contains(table.output, std::to_string(sender_->pid()))) << table.output;
  kill(receiver_->pid(), SIGCONT);
  close(input_);
  input_ = -1;
  EXPECT_EQ(sender_->wait(), 0) << sender_->errors();
  EXPECT_EQ(receiver_->wait(), 0) << receiver_->errors();
  EXPECT_EQ(receiver_->output(), "one\ntwo\nthree\n");
}

TEST_F(Inspect, SaysWhyItCannotLook) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases{
      {{"inspect", file_}, "ENDPOINT_NOT_FOUND"},
      {{"inspect", "/no_such_endpoint"}, "ENDPOINT_NOT_FOUND"},
      {{"inspect", folder_.path("missing.yaml")}, "missing.yaml"},
      {{"inspect", "/x", "--type", "none"}, "none"},
      {{"inspect", "/x", "--type", "loopback"}, "UNSUPPORTED"},
      {{"inspect", shipped_config(folder_, "loopback")}, "UNSUPPORTED"}};
  for (const auto& [words, reason] : cases) {
    const auto refused = run(folder_, words);
    EXPECT_EQ(refused.code, 1) << testing::PrintToString(words);
    EXPECT_TRUE(contains(refused.errors, reason)) << refused.errors;
    EXPECT_EQ(refused.output, "");
  }
}

TEST_F(Inspect, WrongWordsAreExitCodeTwo) {
  const std::vector<std::vector<std::string>> wrong{{"inspect"},
                                                    {"inspect", file_, "--watch", "0"},
                                                    {"inspect", file_, "--watch", "soon"},
                                                    {"inspect", file_, "--transport", "other"},
                                                    {"inspect", file_, "--type", "shm"},
                                                    {"inspect", "/x", "--transport", "main"},
                                                    {"inspect", file_, "--yaml"}};
  for (const auto& words : wrong) {
    const auto refused = run(folder_, words);
    EXPECT_EQ(refused.code, 2) << testing::PrintToString(words) << refused.errors;
    EXPECT_NE(refused.errors, "");
    EXPECT_EQ(refused.output, "");
  }
}

}  // namespace
}  // namespace cdmf::ipc::test
