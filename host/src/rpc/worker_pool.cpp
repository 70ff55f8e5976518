#include "rpc/worker_pool.h"

#include <algorithm>

namespace cdmf::ipc::rpc {

WorkerPool::WorkerPool(unsigned threads, std::size_t queue_max, std::function<void(Job&)> run,
                       const std::shared_ptr<void>& owner)
    : queue_max_(queue_max), state_(std::make_shared<State>()) {
  state_->run = std::move(run);
  for (unsigned i = 0; i < threads; ++i) {
    threads_.emplace_back([state = state_, owner] { work(state); });
  }
}

WorkerPool::~WorkerPool() { stop(std::chrono::steady_clock::now()); }

bool WorkerPool::try_push(Job&& job) {
  const std::lock_guard lock(state_->mutex);
  if (state_->ending || state_->queue.size() >= queue_max_) return false;
  state_->queue.push_back(std::move(job));
  state_->changed.notify_one();
  return true;
}

std::size_t WorkerPool::drop(PeerId peer) {
  const std::lock_guard lock(state_->mutex);
  return std::erase_if(state_->queue, [&](const Job& job) { return job.request.getPeer() == peer; });
}

bool WorkerPool::is_worker() const {
  return std::any_of(threads_.begin(), threads_.end(),
                     [](const std::thread& thread) { return thread.get_id() == std::this_thread::get_id(); });
}

std::size_t WorkerPool::stop(std::chrono::steady_clock::time_point deadline) {
  std::size_t unfinished = 0;
  std::size_t stuck = 0;
  const bool from_within = is_worker();
  {
    std::unique_lock lock(state_->mutex);
    state_->ending = true;
    unfinished = state_->queue.size();
    state_->queue.clear();
    state_->changed.notify_all();
    const std::size_t own = from_within ? 1 : 0;
    state_->changed.wait_until(lock, deadline, [&] { return state_->running <= own; });
    stuck = state_->running - own;
  }
  for (auto& thread : threads_) {
    // Which of them are stuck is not known; those that are not leave by themselves.
    if (stuck > 0 || from_within) {
      thread.detach();
    } else {
      thread.join();
    }
  }
  threads_.clear();
  return unfinished + stuck;
}

void WorkerPool::work(const std::shared_ptr<State>& state) {
  std::unique_lock lock(state->mutex);
  for (;;) {
    state->changed.wait(lock, [&] { return state->ending || !state->queue.empty(); });
    if (state->ending) return;
    Job job = std::move(state->queue.front());
    state->queue.pop_front();
    ++state->running;
    lock.unlock();
    state->run(job);
    job.request = Message();  // Not kept until the next one comes.
    lock.lock();
    --state->running;
    if (state->ending) state->changed.notify_all();
  }
}

}  // namespace cdmf::ipc::rpc
