#pragma once
// rpc/worker_pool.h: a few threads and a queue of calls for them that can be full.
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "ipc/message.h"

namespace cdmf::ipc::rpc {

struct Method;

class WorkerPool {
 public:
  struct Job {
    Message request;
    Method* method = nullptr;
    std::uint64_t deadline_ns = 0;
  };
  /// run  Does a job; called by several threads. The pool does not keep alive what it refers to: `owner` does, one
  ///      reference in each thread.
  WorkerPool(unsigned threads, std::size_t queue_max, std::function<void(Job&)> run,
             const std::shared_ptr<void>& owner);
  ~WorkerPool();

  /// False: the queue is full, and the job is still the caller's.
  bool try_push(Job&& job);
  /// Takes the jobs of a peer that has left out of the queue. returns how many.
  std::size_t drop(PeerId peer);
  /// Ends the threads; queued jobs are dropped, running ones waited for until the deadline on the steady clock.
  /// returns how many jobs were not finished.
  std::size_t stop(std::chrono::steady_clock::time_point deadline);
  [[nodiscard]] bool is_worker() const;

 private:
  // Threads that never come back outlive the pool, and so does what they look at.
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Job> queue;
    std::function<void(Job&)> run;
    std::size_t running = 0;
    bool ending = false;
  };
  static void work(const std::shared_ptr<State>& state);

  const std::size_t queue_max_;
  std::shared_ptr<State> state_;
  std::vector<std::thread> threads_;
};

}  // namespace cdmf::ipc::rpc
