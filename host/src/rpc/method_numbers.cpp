#include "rpc/method_numbers.h"

#include <algorithm>
#include <deque>
#include <mutex>
#include <string>

namespace cdmf::ipc::rpc {
namespace {

struct Given {
  std::mutex mutex;
  std::deque<std::string> names;  // That of number 1 first.
};

/// Never destroyed: threads of stubs may outlive main().
Given& given() {
  static Given* const all = new Given;
  return *all;
}

}  // namespace

std::uint8_t number_of_method(std::string_view name) {
  Given& all = given();
  const std::lock_guard lock(all.mutex);
  const auto found = std::find(all.names.begin(), all.names.end(), name);
  const auto number = static_cast<std::size_t>(found - all.names.begin()) + 1;
  if (number > kMethodNumberMax) return 0;
  if (found == all.names.end()) all.names.emplace_back(name);
  return static_cast<std::uint8_t>(number);
}

std::string_view method_of_number(std::uint8_t number) {
  Given& all = given();
  const std::lock_guard lock(all.mutex);
  if (number == 0 || number > all.names.size()) return {};
  return all.names[number - 1];
}

}  // namespace cdmf::ipc::rpc
