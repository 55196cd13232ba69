// SPDX-License-Identifier: MIT
#include "threads/pool.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif
#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace bptt::core {
namespace {

// --- waiting

constexpr int short_wait = 2000;  // pauses, some tens of microseconds: as long as waking a thread

// Spins, and lets others run when it takes long: there may be more threads than cores.
void spin(int& spins) {
  if (spins++ < short_wait)
    pause_briefly();
  else
    std::this_thread::yield();
}

// The system tends to wake a thread on the core of the thread that wakes it, where the two then
// take turns, while another core has nothing to do: this thread leaves that core.
int current_core() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}
void leave_core(int core) {
#if defined(__linux__)
  cpu_set_t allowed;
  if (core < 0 || current_core() != core || sched_getaffinity(0, sizeof allowed, &allowed)) return;
  cpu_set_t others = allowed;
  CPU_CLR(static_cast<std::size_t>(core), &others);
  if (CPU_COUNT(&others) == 0 || sched_setaffinity(0, sizeof others, &others)) return;
  sched_setaffinity(0, sizeof allowed, &allowed);
#else
  (void)core;
#endif
}

// --- one call on several threads

struct Job {
  int size;
  int core = current_core();  // of the caller
  StopRequest stop;
  const std::function<void(const Team&)>& work;
  Barrier barrier;
  std::atomic<int> running{0};
  std::atomic<bool> stopped{false};

  Job(int ranks, StopRequest s, const std::function<void(const Team&)>& w)
      : size(ranks), stop(s), work(w) {}

  Team team(int rank) {
    Team t{};
    t.rank = rank, t.size = size, t.context = this;
    t.wait = [](void* job) { return static_cast<Job*>(job)->wait(); };
    t.stopped = [](void* job, int r) { return static_cast<Job*>(job)->ask(r); };
    return t;
  }

  bool wait() {
    int spins = 0;
    barrier.wait(size, [&] {
      spin(spins);
      return !stopped.load(std::memory_order_relaxed);
    });
    return !stopped.load(std::memory_order_relaxed);
  }

  bool ask(int rank) {
    if (rank == 0 && stop.requested && stop.requested(stop.context)) stopped = true;
    return stopped.load(std::memory_order_relaxed);
  }
};

class Worker {
 public:
  Worker() : thread_([this] { loop(); }) {}  // may throw std::system_error

  void give(Job* job, int rank) {
    rank_ = rank;
    job_.store(job, std::memory_order_seq_cst);
    if (asleep_.load(std::memory_order_seq_cst)) {
      const std::lock_guard<std::mutex> lock(mutex_);
      wake_.notify_one();
    }
  }

 private:
  void loop() {
    for (;;) {
      Job* job = next();
      leave_core(job->core);
      job->work(job->team(rank_));
      job_.store(nullptr, std::memory_order_relaxed);
      job->running.fetch_sub(1, std::memory_order_release);  // the job may be gone after this
    }
  }

  // Spins for a short while, then sleeps.
  Job* next() {
    for (int spins = 0; spins < short_wait; ++spins) {
      if (Job* job = job_.load(std::memory_order_acquire)) return job;
      pause_briefly();
    }
    std::unique_lock<std::mutex> lock(mutex_);
    asleep_.store(true, std::memory_order_seq_cst);
    wake_.wait(lock, [this] { return job_.load(std::memory_order_seq_cst) != nullptr; });
    asleep_.store(false, std::memory_order_relaxed);
    return job_.load(std::memory_order_acquire);
  }

  std::atomic<Job*> job_{nullptr};
  std::atomic<bool> asleep_{false};
  int rank_ = 0;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::thread thread_;  // last: it uses all others
};

}  // namespace

// The threads of this process beside its main one. Never destroyed: they wait for work until the
// process ends.
struct ThreadPool {
  std::atomic_flag taken = ATOMIC_FLAG_INIT;
  std::vector<Worker*> workers;

  void grow(std::size_t size) {
    try {
      while (workers.size() < size) {
        workers.reserve(size);
        workers.push_back(new Worker);
      }
    } catch (const std::system_error&) {  // the system gives no more threads
    } catch (const std::bad_alloc&) {
    }
  }
};

namespace {

std::atomic<ThreadPool*> pool{nullptr};
std::mutex pool_mutex;

// A forked process has none of its parent's threads: it starts with a new pool.
#if defined(_WIN32)
bool prepare_for_forks() { return true; }  // no process is ever forked
#else
bool prepare_for_forks() {
  return pthread_atfork([] { pool_mutex.lock(); }, [] { pool_mutex.unlock(); },
                        [] {
                          pool_mutex.unlock();
                          pool.store(nullptr, std::memory_order_relaxed);
                        }) == 0;
}
#endif

ThreadPool* this_pool() {
  if (ThreadPool* c = pool.load(std::memory_order_acquire)) return c;
  static const bool prepared = prepare_for_forks();
  if (!prepared) return nullptr;
  const std::lock_guard<std::mutex> lock(pool_mutex);
  ThreadPool* c = pool.load(std::memory_order_acquire);
  if (!c) pool.store(c = new (std::nothrow) ThreadPool, std::memory_order_release);
  return c;
}

}  // namespace

ThreadPool* PoolLease::take(int size) {
  ThreadPool* c = size > 1 ? this_pool() : nullptr;
  if (!c || c->taken.test_and_set(std::memory_order_acquire)) return nullptr;
  c->grow(static_cast<std::size_t>(size) - 1);
  return c;
}

PoolLease::PoolLease(int size) : pool_(take(size)) {
  if (pool_) size_ = std::min(size, static_cast<int>(pool_->workers.size()) + 1);
}

PoolLease::~PoolLease() {
  if (pool_) pool_->taken.clear(std::memory_order_release);
}

bool PoolLease::run(StopRequest stop, const std::function<void(const Team&)>& work) {
  Job job(size_, stop, work);
  job.running.store(size_ - 1, std::memory_order_relaxed);
  for (int rank = 1; rank < size_; ++rank)
    pool_->workers[static_cast<std::size_t>(rank) - 1]->give(&job, rank);
  work(job.team(0));
  for (int spins = 0; job.running.load(std::memory_order_acquire) != 0;) spin(spins);
  return !job.stopped.load(std::memory_order_relaxed);
}

}  // namespace bptt::core
