#include "rpc/learnt_methods.h"

#include <functional>

namespace cdmf::ipc::rpc {

LearntMethods::Method* LearntMethods::look_up(std::string_view name) {
  if (name.empty()) return nullptr;
  const std::size_t place = std::hash<std::string_view>{}(name) % kPlaces;
  for (std::size_t at = place;; at = (at + 1) % kPlaces) {              // Half of the places stay free.
    Method* const method = table_[at].load(std::memory_order_acquire);  // ENTERED
    if (method == nullptr) return enter(name, place);
    if (method->name() != name) continue;
    if (alone_) last_.store(method, std::memory_order_release);  // ENTERED
    return method;
  }
}

LearntMethods::Method* LearntMethods::enter(std::string_view name, std::size_t place) {
  const std::lock_guard lock(mutex_);
  for (std::size_t at = place;; at = (at + 1) % kPlaces) {
    Method* const method = table_[at].load(std::memory_order_relaxed);  // Written under the mutex only.
    if (method != nullptr && method->name() == name) return method;     // Another thread was first.
    if (method != nullptr) continue;
    if (methods_.size() == kNamesMax) return nullptr;
    Method* const fresh = methods_.emplace_back(std::make_unique<Method>(name)).get();
    table_[at].store(fresh, std::memory_order_release);                                 // ENTERED
    if (alone_ || methods_.size() == 1) last_.store(fresh, std::memory_order_release);  // ENTERED
    return fresh;
  }
}

void LearntMethods::forget_numbers() noexcept {
  for (const auto& place : table_) {
    if (Method* const method = place.load(std::memory_order_acquire)) method->forget();  // ENTERED
  }
}

}  // namespace cdmf::ipc::rpc
