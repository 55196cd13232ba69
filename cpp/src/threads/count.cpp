// SPDX-License-Identifier: MIT
#include "threads/count.hpp"

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif
#if !defined(_WIN32)
#include <unistd.h>
#endif

namespace bptt::core {
namespace {

int this_process() {
#if defined(_WIN32)
  return 1;  // no process is ever forked
#else
  return getpid();
#endif
}

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

std::atomic<int> loaded_by{this_process()};  // 0 once siblings are expected
std::atomic<int> chosen{0}, by_default{0};

}  // namespace

int threads() {
  if (const int n = chosen.load(std::memory_order_relaxed)) return n;
  int n = by_default.load(std::memory_order_relaxed);
  if (!n) by_default.store(n = default_threads(), std::memory_order_relaxed);
  if (n == 1 || this_process() == loaded_by.load(std::memory_order_relaxed)) return n;
  const char* own = std::getenv("BPTT_NUM_THREADS");
  return own && *own ? n : 1;
}

void expect_siblings() { loaded_by.store(0, std::memory_order_relaxed); }

void set_threads(int n) {
  if (n < 0 || n > most_threads)
    throw std::invalid_argument("set_num_threads: threads is " + std::to_string(n) +
                                ", expected 0..most = 0.." + std::to_string(most_threads));
  chosen.store(n, std::memory_order_relaxed);
}

}  // namespace bptt::core
