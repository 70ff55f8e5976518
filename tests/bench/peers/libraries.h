#pragma once
// bench/peers/libraries.h: queues of other libraries behind try_push and try_pop, each set up as its own documentation
// says is fastest for that use. A library that is not installed is left out: its CDMF_PEER_… is then 0.
#include <boost/lockfree/queue.hpp>
#include <boost/lockfree/spsc_queue.hpp>
#include <cstddef>

#if __has_include(<readerwriterqueue/readerwriterqueue.h>)
#include <readerwriterqueue/readerwriterqueue.h>
#define CDMF_PEER_READERWRITERQUEUE 1
#else
#define CDMF_PEER_READERWRITERQUEUE 0
#endif

#if __has_include(<concurrentqueue/concurrentqueue.h>)
#include <concurrentqueue/concurrentqueue.h>
#define CDMF_PEER_CONCURRENTQUEUE 1
#else
#define CDMF_PEER_CONCURRENTQUEUE 0
#endif

#if __has_include(<atomic_queue/atomic_queue.h>)
#include <atomic_queue/atomic_queue.h>
#define CDMF_PEER_ATOMIC_QUEUE 1
#else
#define CDMF_PEER_ATOMIC_QUEUE 0
#endif

namespace cdmf::bench {

/// Capacity at compile time, so that it allocates nothing and its index needs no division.
template <typename T, std::size_t kCapacity>
struct BoostSpscQueue {
  using value_type = T;
  bool try_push(const T& item) { return queue.push(item); }
  bool try_pop(T& item) { return queue.pop(item); }
  boost::lockfree::spsc_queue<T, boost::lockfree::capacity<kCapacity>> queue;
};

/// A node pool of fixed size: no allocation, 16-bit tagged indices.
template <typename T, std::size_t kCapacity>
struct BoostQueue {
  using value_type = T;
  bool try_push(const T& item) { return queue.push(item); }
  bool try_pop(T& item) { return queue.pop(item); }
  boost::lockfree::queue<T, boost::lockfree::capacity<kCapacity>> queue;
};

#if CDMF_PEER_READERWRITERQUEUE
/// Room for everything from the start; try_enqueue never allocates.
template <typename T, std::size_t kCapacity>
struct ReaderWriterQueue {
  using value_type = T;
  bool try_push(const T& item) { return queue.try_enqueue(item); }
  bool try_pop(T& item) { return queue.try_dequeue(item); }
  moodycamel::ReaderWriterQueue<T> queue{kCapacity};
};
#endif

#if CDMF_PEER_CONCURRENTQUEUE
/// try_enqueue and room for everything: it never allocates. For one producer and one consumer, with their tokens.
template <typename T, std::size_t kCapacity>
struct ConcurrentQueuePair {
  using value_type = T;
  using Queue = moodycamel::ConcurrentQueue<T>;
  bool try_push(const T& item) { return queue.try_enqueue(producer, item); }
  bool try_pop(T& item) { return queue.try_dequeue(consumer, item); }
  Queue queue{kCapacity};
  moodycamel::ProducerToken producer{queue};
  moodycamel::ConsumerToken consumer{queue};
};
/// For any number of both: a producer of its own for each thread, made by itself.
template <typename T, std::size_t kCapacity>
struct ConcurrentQueueCrowd {
  using value_type = T;
  bool try_push(const T& item) { return queue.try_enqueue(item); }
  bool try_pop(T& item) { return queue.try_dequeue(item); }
  moodycamel::ConcurrentQueue<T> queue{kCapacity, 0, 8};
};
#endif

#if CDMF_PEER_ATOMIC_QUEUE
/// SPSC mode, indices not shuffled, as its benchmarks have it for one producer and one consumer.
template <typename T, std::size_t kCapacity>
struct AtomicQueueSpsc {
  using value_type = T;
  bool try_push(const T& item) { return queue.try_push(item); }
  bool try_pop(T& item) { return queue.try_pop(item); }
  atomic_queue::AtomicQueue2<T, kCapacity, false, true, false, true> queue;
};
template <typename T, std::size_t kCapacity>
struct AtomicQueueMpmc {
  using value_type = T;
  bool try_push(const T& item) { return queue.try_push(item); }
  bool try_pop(T& item) { return queue.try_pop(item); }
  atomic_queue::AtomicQueue2<T, kCapacity> queue;
};
#endif

}  // namespace cdmf::bench
