#pragma once
// tests/integration/namespaces.h: two machines, as far as the network goes: network namespaces and a cable between
// them.
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>

namespace cdmf::ipc::test {

/// Needs root, `ip`, and a kernel with veth.
class Namespaces {
 public:
  Namespaces() {
    const std::string id = std::to_string(getpid());
    names_ = {"cdmf_a_" + id, "cdmf_b_" + id};
    const std::string cables[] = {"cdmfa" + id, "cdmfb" + id};  // At most 15 bytes.
    exist_ = run("ip netns add " + names_[0]) && run("ip netns add " + names_[1]) &&
             run("ip link add " + cables[0] + " netns " + names_[0] + " type veth peer name " + cables[1] + " netns " +
                 names_[1]);
    for (int side = 0; side < 2 && exist_; ++side) {
      const std::string in = "ip -n " + names_[side];
      exist_ = run(in + " addr add " + address(side) + "/24 dev " + cables[side]) &&
               run(in + " link set " + cables[side] + " up") && run(in + " link set lo up");
    }
  }
  ~Namespaces() {
    for (const std::string& name : names_) (void)run("ip netns del " + name);
  }
  Namespaces(const Namespaces&) = delete;
  Namespaces& operator=(const Namespaces&) = delete;

  [[nodiscard]] bool exist() const noexcept { return exist_; }
  static std::string address(int side) { return "10.203.0." + std::to_string(side + 1); }

  /// This thread is on that machine while the object lives, and what it starts stays there.
  class Visit {
   public:
    Visit(const Namespaces& all, int side) : home_(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
      const int there = open(("/run/netns/" + all.names_[side]).c_str(), O_RDONLY | O_CLOEXEC);
      arrived_ = home_ >= 0 && there >= 0 && setns(there, CLONE_NEWNET) == 0;
      close(there);
    }
    ~Visit() {
      if (arrived_ && setns(home_, CLONE_NEWNET) != 0) std::abort();  // Everything after it would be elsewhere.
      close(home_);
    }
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;
    [[nodiscard]] bool arrived() const noexcept { return arrived_; }

   private:
    int home_;
    bool arrived_ = false;
  };

 private:
  static bool run(const std::string& command) { return std::system((command + " 2>/dev/null").c_str()) == 0; }

  std::array<std::string, 2> names_;
  bool exist_ = false;
};

}  // namespace cdmf::ipc::test
