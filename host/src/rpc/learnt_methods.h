#pragma once
// rpc/learnt_methods.h: the methods that a proxy has called, and the numbers that a server gave them (wire.h).
//
// A name stays in the table once it is there. Its number belongs to one link, and is kept in one word with the id of
// that link's peer: a request that goes by number is sent to this peer and no other, so that a number cannot reach the
// server of a later link, whichever thread learns of the new link first.
// Edge ENTERED  table_ store(release) -> find(acquire): the name.
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/message.h"
#include "rpc/method_numbers.h"

namespace cdmf::ipc::rpc {

class LearntMethods {
 public:
  static constexpr std::size_t kNamesMax = 128;

  class Method {
   public:
    explicit Method(std::string_view name) : name_(name) {}
    [[nodiscard]] const std::string& name() const noexcept { return name_; }

    struct Number {
      PeerId peer = kNoPeer;
      std::uint8_t number = 0;  ///< 0: not known
    };
    [[nodiscard]] Number number() const noexcept {
      const std::uint64_t word = word_.load(std::memory_order_relaxed);
      return {word >> kNumberBits, static_cast<std::uint8_t>(word & kMethodNumberMax)};
    }
    /// [receiver]
    void learn(PeerId peer, std::uint8_t number) noexcept {
      if (number == 0 || number > kMethodNumberMax || peer >> (64 - kNumberBits) != 0) return;
      word_.store(peer << kNumberBits | number, std::memory_order_relaxed);
    }
    void forget() noexcept { word_.store(0, std::memory_order_relaxed); }

   private:
    static constexpr unsigned kNumberBits = 7;
    const std::string name_;
    std::atomic<std::uint64_t> word_{0};
  };

  /// alone  One thread at a time calls anything.
  explicit LearntMethods(bool alone) noexcept : alone_(alone) {}

  /// The entry of a name, made now if there is none. null: the name is empty, or one of too many. [any]
  [[nodiscard]] Method* find(std::string_view name) {
    Method* const last = last_.load(std::memory_order_acquire);  // ENTERED
    if (last != nullptr && last->name() == name) [[likely]]
      return last;
    return look_up(name);
  }
  /// The link is over. [receiver]
  void forget_numbers() noexcept;

 private:
  [[nodiscard]] Method* look_up(std::string_view name);
  [[nodiscard]] Method* enter(std::string_view name, std::size_t place);

  const bool alone_;
  std::atomic<Method*> last_{nullptr};  // Of a lone caller the last one, else the first there ever was.
  static constexpr std::size_t kPlaces = 2 * kNamesMax;
  std::array<std::atomic<Method*>, kPlaces> table_{};  // By hash, then the next free place.
  std::mutex mutex_;                                   // Who enters a name.
  std::vector<std::unique_ptr<Method>> methods_;
};

}  // namespace cdmf::ipc::rpc
