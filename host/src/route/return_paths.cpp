#include "route/return_paths.h"

#include <random>

namespace cdmf::ipc::route {
namespace {

constexpr std::uint64_t kSweepEveryNs = 1'000'000'000;

std::uint64_t random_number() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

}  // namespace

ReturnPaths::ReturnPaths() : last_(random_number()) {}

std::optional<std::uint64_t> ReturnPaths::add(const ReturnPath& path, std::uint64_t now_ns) {
  const std::lock_guard lock(mutex_);
  if (now_ns >= next_sweep_ns_ || paths_.size() >= kCountMax) drop_expired(now_ns);
  if (paths_.size() >= kCountMax) return std::nullopt;
  paths_.emplace(++last_, path);
  return last_;
}

std::optional<ReturnPath> ReturnPaths::take(std::uint64_t number, PeerId via) {
  const std::lock_guard lock(mutex_);
  const auto found = paths_.find(number);
  if (found == paths_.end() || found->second.via != via) return std::nullopt;
  const ReturnPath path = found->second;
  paths_.erase(found);
  return path;
}

std::vector<ReturnPath> ReturnPaths::take_all(PeerId via) {
  std::vector<ReturnPath> taken;
  const std::lock_guard lock(mutex_);
  std::erase_if(paths_, [&](const auto& entry) {
    if (entry.second.via != via) return false;
    taken.push_back(entry.second);
    return true;
  });
  return taken;
}

void ReturnPaths::drop_expired(std::uint64_t now_ns) {
  next_sweep_ns_ = now_ns + kSweepEveryNs;
  std::erase_if(paths_, [&](const auto& entry) { return entry.second.expires_ns <= now_ns; });
}

}  // namespace cdmf::ipc::route
