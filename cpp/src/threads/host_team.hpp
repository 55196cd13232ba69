// SPDX-License-Identifier: MIT
// A team of the threads that the host's parallel_for brings together. Tasks that start within some
// tens of microseconds of each other become its ranks, and compute at the same time; a later task
// finds nothing left to do, so no rank ever waits for one that might not come.
#pragma once
#include <atomic>

#include "bptt.h"
#include "threads/barrier.hpp"

namespace bptt::core {

template <class Prepare, class Work>
class HostTeam {
 public:
  // prepare(size) once, then work(team) for every rank, all before run() returns.
  static void run(const bptt_desc& desc, int size, const Prepare& prepare, const Work& work) {
    HostTeam team(size, prepare, work);
    if (size > 1) desc.parallel_for(desc.parallel_context, size, task, &team);
    if (team.members_.load(std::memory_order_acquire) == 0) team.join();
  }

 private:
  static constexpr int closed = 1 << 30, pauses = 2000;

  HostTeam(int most, const Prepare& prepare, const Work& work)
      : most_(most), prepare_(prepare), work_(work) {}

  static void task(void* team, int) { static_cast<HostTeam*>(team)->join(); }

  void join() {
    int rank = members_.load(std::memory_order_relaxed);
    do {
      if (rank & closed || rank >= most_) return;
    } while (!members_.compare_exchange_weak(rank, rank + 1, std::memory_order_acq_rel));
    if (rank == 0) {
      for (int i = 0; i < pauses && members_.load(std::memory_order_relaxed) < most_; ++i)
        pause_briefly();
      size_ = members_.fetch_or(closed, std::memory_order_acq_rel);
      prepare_(size_);
      begun_.store(true, std::memory_order_release);
    } else {
      while (!begun_.load(std::memory_order_acquire)) pause_briefly();
    }
    Team team = alone;
    team.rank = rank, team.size = size_, team.context = this;
    team.wait = [](void* self) {
      auto* host = static_cast<HostTeam*>(self);
      host->barrier_.wait(host->size_, [] { return pause_briefly(), true; });
      return true;
    };
    work_(team);
  }

  const int most_;
  const Prepare& prepare_;
  const Work& work_;
  int size_ = 1;
  std::atomic<int> members_{0};
  Barrier barrier_;
  std::atomic<bool> begun_{false};
};

}  // namespace bptt::core
