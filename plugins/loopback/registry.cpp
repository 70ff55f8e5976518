#include "registry.h"

#include <map>
#include <utility>

namespace cdmf::ipc::loopback {
namespace {

struct Endpoints {
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<Listener>> by_name;
};

Endpoints& endpoints() {
  static auto* const all = new Endpoints;  // Never destroyed: a driver may outlive the static objects of a program.
  return *all;
}

}  // namespace

std::shared_ptr<Link> Listener::connect(std::shared_ptr<Alarm> client) {
  const std::lock_guard lock(mutex_);
  if (closed_) return nullptr;
  waiting_.push_back(std::make_shared<Link>(limits_, server_, std::move(client)));
  server_->ring();
  return waiting_.back();
}

std::vector<std::shared_ptr<Link>> Listener::accept() {
  const std::lock_guard lock(mutex_);
  return std::exchange(waiting_, {});
}

bool Listener::has_waiting() {
  const std::lock_guard lock(mutex_);
  return !waiting_.empty();
}

void Listener::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  for (const auto& link : waiting_) link->end(Side::kServer, CDMF_CONNECTION_CLOSED);
  waiting_.clear();
}

bool register_endpoint(const std::string& name, const std::shared_ptr<Listener>& listener) {
  const std::lock_guard lock(endpoints().mutex);
  return endpoints().by_name.try_emplace(name, listener).second;
}

void unregister_endpoint(const std::string& name) {
  const std::lock_guard lock(endpoints().mutex);
  endpoints().by_name.erase(name);
}

std::shared_ptr<Listener> find_endpoint(const std::string& name) {
  const std::lock_guard lock(endpoints().mutex);
  const auto found = endpoints().by_name.find(name);
  return found == endpoints().by_name.end() ? nullptr : found->second;
}

}  // namespace cdmf::ipc::loopback
