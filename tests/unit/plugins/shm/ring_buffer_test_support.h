#pragma once
// What the tests of the typed rings share: item types that watch their own life, and a watchdog.
#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <set>
#include <stdexcept>
#include <thread>
#include <utility>

namespace ring_buffer_test {

/// Ends waits that would never end if the ring lost something. Far above any real wait, also under a sanitizer.
class Watchdog {
 public:
  /// Lets other threads run. False when the test has taken far too long: give up.
  bool keep_waiting() const {
    std::this_thread::yield();
    return std::chrono::steady_clock::now() < end_;
  }

 private:
  std::chrono::steady_clock::time_point end_ = std::chrono::steady_clock::now() + std::chrono::seconds(90);
};

/// An item of exactly `kBytes` bytes whose every byte depends on its number, so that a torn or mixed-up one shows.
template <std::size_t kBytes>
struct Sized {
  unsigned char bytes[kBytes];

  Sized() = default;
  explicit Sized(std::uint64_t number) noexcept {
    for (std::size_t i = 0; i < kBytes; ++i) bytes[i] = byte_of(number, i);
  }
  bool is(std::uint64_t number) const noexcept {
    for (std::size_t i = 0; i < kBytes; ++i) {
      if (bytes[i] != byte_of(number, i)) return false;
    }
    return true;
  }
  static unsigned char byte_of(std::uint64_t number, std::size_t i) noexcept {
    return static_cast<unsigned char>((number >> (8 * (i % 8))) + 37 * i);
  }
  bool operator==(const Sized& other) const noexcept = default;
};

/// Knows which of its objects are alive. Construction over a live object, destruction of a dead one and use of a dead
/// one are test failures; what is left alive is asked with alive(). For one thread.
/// Movable and copyable, without default constructor; throws wherever `throw_in` counts down to.
class Tracked {
 public:
  explicit Tracked(int number) : number_(number) {
    step();
    born();
  }
  Tracked(const Tracked& other) : number_(other.value()) {
    step();
    born();
  }
  Tracked(Tracked&& other) : number_(other.value()) {
    step();
    other.number_ = kMovedFrom;
    born();
  }
  Tracked& operator=(const Tracked& other) {
    step();
    number_ = other.value();
    return *this;
  }
  Tracked& operator=(Tracked&& other) {
    step();
    number_ = other.value();
    other.number_ = kMovedFrom;
    return *this;
  }
  ~Tracked() {
    if (registry().erase(this) != 1) ADD_FAILURE() << "destroyed an object that was not alive";
  }

  int value() const {
    if (!registry().contains(this)) ADD_FAILURE() << "used an object that was not alive";
    return number_;
  }
  bool operator==(const Tracked& other) const { return value() == other.value(); }

  static constexpr int kMovedFrom = -1;
  static std::size_t alive() { return registry().size(); }
  /// The n-th construction or assignment from now on throws std::runtime_error; 0 for none.
  static void throw_in(int n) { countdown() = n; }

 private:
  void born() {
    if (!registry().insert(this).second) ADD_FAILURE() << "constructed over a live object";
  }
  static void step() {
    if (countdown() > 0 && --countdown() == 0) throw std::runtime_error("as asked");
  }
  static std::set<const Tracked*>& registry() {
    static std::set<const Tracked*> alive;
    return alive;
  }
  static int& countdown() {
    static int left = 0;
    return left;
  }

  int number_;
};

}  // namespace ring_buffer_test
