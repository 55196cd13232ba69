// SPDX-License-Identifier: MIT
// The number of threads that compute one call. Results do not depend on it, to the last bit. The
// threads start at the first call that uses them, wait for the next one, and end with the process.
#pragma once

namespace bptt::core {

// The default: the number given to set_threads(), else BPTT_NUM_THREADS, else, in a process forked
// after this library was loaded, 1 (its parent and its siblings compute too), else the number of
// cores that this process may use (its affinity mask and its cgroup's quota, OMP_NUM_THREADS at
// most).
// Throws std::invalid_argument if BPTT_NUM_THREADS is no number from 1 to most_threads.
int threads();

// 0 returns to the default. Throws std::invalid_argument outside 0..most_threads.
void set_threads(int n);

// Makes the default 1, as in a forked process: this one is one of several that compute.
void expect_siblings();

constexpr int most_threads = 1024;

}  // namespace bptt::core
