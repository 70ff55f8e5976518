// The typed rings against a deque that does the same: every short sequence of operations, and long random ones.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "ipc/ring_buffer.h"
#include "ring_buffer_test_support.h"

namespace {

using namespace cdmf::ipc;
using ring_buffer_test::Sized;

/// A ring and its model, driven together. Items are numbered, so any loss, repetition or swap shows.
template <typename Ring>
class Pair {
 public:
  using T = typename Ring::value_type;

  static T item(std::uint8_t number) {
    if constexpr (std::is_same_v<T, std::string>) {
      return std::string(1 + number % 40, static_cast<char>('a' + number % 26));  // Some on the heap, some inside.
    } else {
      return T(number);
    }
  }

  void push() { check(ring_->try_push(item(next_)) == (fits(1) == 1), 1); }

  void push_bulk(std::size_t count) {
    std::vector<T> source;
    for (std::size_t i = 0; i < count; ++i) source.push_back(item(static_cast<std::uint8_t>(next_ + i)));
    const std::size_t expected = fits(count);
    check(ring_->try_push_bulk(source.begin(), count) == expected, count);
  }

  void pop() {
    std::optional<T> got = ring_->try_pop();
    good_ = good_ && got.has_value() == !model_.empty();
    if (!model_.empty()) {
      good_ = good_ && got == model_.front();
      model_.pop_front();
    }
    check_size();
  }

  void pop_bulk(std::size_t count) {
    std::vector<T> out(count);
    const std::size_t expected = std::min(count, model_.size());
    good_ = good_ && ring_->try_pop_bulk(out.begin(), count) == expected;
    for (std::size_t i = 0; good_ && i < expected; ++i) good_ = out[i] == model_[i];
    model_.erase(model_.begin(), model_.begin() + static_cast<std::ptrdiff_t>(expected));
    check_size();
  }

  void look() {
    if constexpr (requires { ring_->front(); }) {
      T* front = ring_->front();
      good_ = good_ && (front == nullptr) == model_.empty() && (front == nullptr || *front == model_.front());
    }
    check_size();
  }

  bool good() const { return good_; }

 private:
  std::size_t fits(std::size_t count) const { return std::min(count, Ring::capacity() - model_.size()); }

  void check(bool as_expected, std::size_t wanted) {
    good_ = good_ && as_expected;
    for (std::size_t left = fits(wanted); left > 0; --left) model_.push_back(item(next_++));
    max_size_ = std::max(max_size_, model_.size());
    check_size();
  }

  void check_size() {
    good_ = good_ && ring_->size() == model_.size() && ring_->is_empty() == model_.empty() &&
            ring_->is_full() == (model_.size() == Ring::capacity());
    if constexpr (requires { ring_->getStats(); }) {
      const RingBufferStats stats = ring_->getStats();
      good_ = good_ && stats.total_pushes - stats.total_pops == model_.size() && stats.max_size == max_size_;
    }
  }

  std::unique_ptr<Ring> ring_ = std::make_unique<Ring>();
  std::deque<T> model_;
  std::size_t max_size_ = 0;
  std::uint8_t next_ = 0;
  bool good_ = true;
};

template <typename Ring>
class RingBufferModel : public testing::Test {};

using Rings =
    testing::Types<SPSCRingBuffer<std::uint64_t, 1>, SPSCRingBuffer<std::uint64_t, 2>, SPSCRingBuffer<std::uint64_t, 4>,
                   SPSCRingBuffer<std::uint64_t, 8>, SPSCRingBuffer<Sized<24>, 4>, SPSCRingBuffer<Sized<24>, 8>,
                   SPSCRingBuffer<Sized<56>, 4>, SPSCRingBuffer<Sized<64>, 1>, SPSCRingBuffer<Sized<64>, 4>,
                   SPSCRingBuffer<std::string, 4>, SPSCRingBuffer<std::uint64_t, 4, RingBufferCounting::on>,
                   SPSCRingBuffer<std::uint64_t, 8, RingBufferCounting::on>, MPMCRingBuffer<std::uint64_t, 1>,
                   MPMCRingBuffer<std::uint64_t, 2>, MPMCRingBuffer<std::uint64_t, 4>, MPMCRingBuffer<Sized<64>, 4>,
                   MPMCRingBuffer<std::string, 8>, MPMCRingBuffer<std::uint64_t, 4, RingBufferCounting::on>>;
TYPED_TEST_SUITE(RingBufferModel, Rings);

TYPED_TEST(RingBufferModel, EverySequenceOfFiveOperationsAtEveryOffset) {
  constexpr int kOperations = 6;
  constexpr int kLength = 5;
  constexpr int kOffsets = 15;  // Once around the longest: 8 items of 8 bytes lie in two lines of seven.
  int sequences = 1;
  for (int i = 0; i < kLength; ++i) sequences *= kOperations;

  for (int offset = 0; offset < kOffsets; ++offset) {
    for (int sequence = 0; sequence < sequences; ++sequence) {
      Pair<TypeParam> pair;
      for (int i = 0; i < offset; ++i) {
        pair.push();
        pair.pop();
      }
      for (int i = 0, rest = sequence; i < kLength; ++i, rest /= kOperations) {
        switch (rest % kOperations) {
          case 0:
            pair.push();
            break;
          case 1:
            pair.pop();
            break;
          case 2:
            pair.push_bulk(3);
            break;
          case 3:
            pair.pop_bulk(3);
            break;
          case 4:
            pair.push_bulk(TypeParam::capacity());
            break;
          case 5:
            pair.look();
            break;
        }
      }
      ASSERT_TRUE(pair.good()) << "offset " << offset << ", sequence " << sequence << " in base " << kOperations;
    }
  }
}

TYPED_TEST(RingBufferModel, LongRandomRuns) {
  for (unsigned seed = 1; seed <= 10; ++seed) {
    std::mt19937 random(seed);
    Pair<TypeParam> pair;
    for (int step = 0; step < 4000; ++step) {
      const std::size_t count = random() % (TypeParam::capacity() + 3);
      switch (random() % 5) {
        case 0:
          pair.push();
          break;
        case 1:
          pair.pop();
          break;
        case 2:
          pair.push_bulk(count);
          break;
        case 3:
          pair.pop_bulk(count);
          break;
        case 4:
          pair.look();
          break;
      }
      ASSERT_TRUE(pair.good()) << "seed " << seed << ", step " << step;
    }
  }
}

}  // namespace
