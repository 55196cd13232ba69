// SPDX-License-Identifier: MIT
#include "threads/count.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif
#if !defined(_WIN32)
#include <pthread.h>
#include <unistd.h>
#endif

#include "threads/pool.hpp"

namespace bptt::core {
namespace {

// --- waiting

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins, and lets others run when it takes long: there may be more threads than cores.
template <class Condition>
void spin_until(const Condition& done) {
  for (int spins = 0; !done(); ++spins) {
    if (spins < 2000)
      pause_briefly();
    else
      std::this_thread::yield();
  }
}

// The system likes to wake a thread on the core of the one that wakes it, where the two then take
// turns, while another core has nothing to do: this thread moves on if it is there.
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
  std::atomic<int> arrived{0}, generation{0}, running{0};
  std::atomic<bool> stopped{false};

  Job(int ranks, StopRequest s, const std::function<void(const Team&)>& w)
      : size(ranks), stop(s), work(w) {}

  Team team(int rank) {
    return {rank,
            size,
            nullptr,
            this,
            [](void* job) { return static_cast<Job*>(job)->wait(); },
            [](void* job, int r) { return static_cast<Job*>(job)->ask(r); }};
  }

  bool wait() {
    const int now = generation.load(std::memory_order_acquire);
    if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == size) {
      arrived.store(0, std::memory_order_relaxed);
      generation.store(now + 1, std::memory_order_release);
    } else {
      spin_until([&] {
        return generation.load(std::memory_order_acquire) != now ||
               stopped.load(std::memory_order_relaxed);
      });
    }
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

  // Spins some tens of microseconds, as long as it takes to wake a thread; then sleeps.
  Job* next() {
    for (int spins = 0; spins < 2000; ++spins) {
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

// The threads of this process beside its own. Never destroyed: they wait for work until the process
// ends, whatever is destroyed before them.
struct Crew {
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

std::atomic<Crew*> crew{nullptr};
std::mutex crew_mutex;

// A forked process has none of its parent's threads: it starts with a new crew.
#if defined(_WIN32)
int this_process() { return 1; }  // no process is ever forked
bool prepare_for_forks() { return true; }
#else
int this_process() { return getpid(); }
bool prepare_for_forks() {
  return pthread_atfork([] { crew_mutex.lock(); }, [] { crew_mutex.unlock(); },
                        [] {
                          crew_mutex.unlock();
                          crew.store(nullptr, std::memory_order_relaxed);
                        }) == 0;
}
#endif

Crew* this_crew() {
  if (Crew* c = crew.load(std::memory_order_acquire)) return c;
  static const bool prepared = prepare_for_forks();
  if (!prepared) return nullptr;
  const std::lock_guard<std::mutex> lock(crew_mutex);
  Crew* c = crew.load(std::memory_order_acquire);
  if (!c) crew.store(c = new (std::nothrow) Crew, std::memory_order_release);
  return c;
}

// --- how many

// 0 if it is no number of threads. OpenMP allows a list, of which the first counts.
int parse_threads(const char* text, char separator = 0) {
  char* end = nullptr;
  errno = 0;
  const long n = std::strtol(text, &end, 10);
  const bool whole = end != text && (!*end || (separator && *end == separator));
  return errno || !whole || n < 1 || n > most_threads ? 0 : static_cast<int>(n);
}

// The cores that a cgroup's quota of CPU time amounts to, rounded up; no quota: most_threads.
int quota() {
  const auto cores = [](double time, double period) {
    const double n = time > 0 && period > 0 ? time / period : most_threads;
    return n >= most_threads ? most_threads : static_cast<int>(n + 0.999);
  };
  std::string time;
  double period = 0;
  if (std::ifstream("/sys/fs/cgroup/cpu.max") >> time >> period)  // version 2
    return time == "max" ? most_threads : cores(std::atof(time.c_str()), period);
  double microseconds = 0;  // version 1
  if (std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") >> microseconds &&
      std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_period_us") >> period)
    return cores(microseconds, period);
  return most_threads;
}

int usable_cores() {
  int n = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set);
#endif
  const int limit = quota();
  n = n < 1 ? 1 : n > most_threads ? most_threads : n;
  return n < limit ? n : limit;
}

int default_threads() {
  const char* own = std::getenv("BPTT_NUM_THREADS");
  if (own && *own) {
    const int n = parse_threads(own);
    if (!n)
      throw std::invalid_argument(std::string("BPTT_NUM_THREADS is '") + own +
                                  "', expected a number from 1 to " + std::to_string(most_threads));
    return n;
  }
  const char* openmp = std::getenv("OMP_NUM_THREADS");
  const int limit = openmp ? parse_threads(openmp, ',') : 0, cores = usable_cores();
  return limit && limit < cores ? limit : cores;
}

std::atomic<int> alone{this_process()};  // the process that loaded this library
std::atomic<int> chosen{0}, by_default{0};

}  // namespace

int threads() {
  if (const int n = chosen.load(std::memory_order_relaxed)) return n;
  int n = by_default.load(std::memory_order_relaxed);
  if (!n) by_default.store(n = default_threads(), std::memory_order_relaxed);
  if (n == 1 || this_process() == alone.load(std::memory_order_relaxed)) return n;
  const char* own = std::getenv("BPTT_NUM_THREADS");
  return own && *own ? n : 1;
}

void expect_siblings() { alone.store(0, std::memory_order_relaxed); }

void set_threads(int n) {
  if (n < 0 || n > most_threads)
    throw std::invalid_argument("set_num_threads: threads is " + std::to_string(n) +
                                ", expected 0..most = 0.." + std::to_string(most_threads));
  chosen.store(n, std::memory_order_relaxed);
}

Crew* Lease::take(int size) {
  Crew* c = size > 1 ? this_crew() : nullptr;
  if (!c || c->taken.test_and_set(std::memory_order_acquire)) return nullptr;
  c->grow(static_cast<std::size_t>(size) - 1);
  return c;
}

Lease::Lease(int size) : crew_(take(size)) {
  if (crew_) size_ = std::min(size, static_cast<int>(crew_->workers.size()) + 1);
}

Lease::~Lease() {
  if (crew_) crew_->taken.clear(std::memory_order_release);
}

bool Lease::run(StopRequest stop, const std::function<void(const Team&)>& work) {
  Job job(size_, stop, work);
  job.running.store(size_ - 1, std::memory_order_relaxed);
  for (int rank = 1; rank < size_; ++rank)
    crew_->workers[static_cast<std::size_t>(rank) - 1]->give(&job, rank);
  work(job.team(0));
  spin_until([&] { return job.running.load(std::memory_order_acquire) == 0; });
  return !job.stopped.load(std::memory_order_relaxed);
}

}  // namespace bptt::core
