// SPDX-License-Identifier: MIT
// A team of whichever threads the host's parallel_for brings together. Tasks that start within some
// tens of microseconds of each other become its ranks, and compute at the same time; for those that
// come later nothing is left, so no rank ever waits for one that might not come.
#pragma once
#include <atomic>

#include "bptt.h"
#include "kernels/interface.hpp"

namespace bptt::core {

inline void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

template <class Prepare, class Work>
class Party {
 public:
  // prepare(size) once, then work(rank, size, party) for every rank, all before run() returns.
  static void run(const bptt_desc& desc, int size, const Prepare& prepare, const Work& work) {
    Party party(size, prepare, work);
    if (size > 1) desc.parallel_for(desc.parallel_context, size, task, &party);
    if (party.members_.load(std::memory_order_acquire) == 0) party.join();
  }

  // For all ranks.
  bool wait() {
    const int now = generation_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
      arrived_.store(0, std::memory_order_relaxed);
      generation_.store(now + 1, std::memory_order_release);
    } else {
      while (generation_.load(std::memory_order_acquire) == now) pause_briefly();
    }
    return true;
  }

 private:
  static constexpr int closed = 1 << 30, patience = 2000;

  Party(int most, const Prepare& prepare, const Work& work)
      : most_(most), prepare_(prepare), work_(work) {}

  static void task(void* party, int) { static_cast<Party*>(party)->join(); }

  void join() {
    int rank = members_.load(std::memory_order_relaxed);
    do {
      if (rank & closed || rank >= most_) return;
    } while (!members_.compare_exchange_weak(rank, rank + 1, std::memory_order_acq_rel));
    if (rank == 0) {
      for (int i = 0; i < patience && members_.load(std::memory_order_relaxed) < most_; ++i)
        pause_briefly();
      size_ = members_.fetch_or(closed, std::memory_order_acq_rel);
      prepare_(size_);
      begun_.store(true, std::memory_order_release);
    } else {
      while (!begun_.load(std::memory_order_acquire)) pause_briefly();
    }
    work_(rank, size_, this);
  }

  const int most_;
  const Prepare& prepare_;
  const Work& work_;
  int size_ = 1;
  std::atomic<int> members_{0}, arrived_{0}, generation_{0};
  std::atomic<bool> begun_{false};
};

}  // namespace bptt::core
