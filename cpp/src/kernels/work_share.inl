// SPDX-License-Identifier: MIT
// How the ranks of a team share work, wait for each other and stop.
#pragma once
#include "kernels/target.inl"

BPTT_KERNELS_BEGIN

struct Range {
  Index begin, end;
};

// The share of team.rank in n things, cut at multiples of `unit`.
BPTT_SHARED Range share_of(Index n, Index unit, const Team& team) {
  const Index parts = (n + unit - 1) / unit;
  const Index begin = parts * team.rank / team.size, end = parts * (team.rank + 1) / team.size;
  return {begin * unit, end * unit < n ? end * unit : n};
}

// Counts operations, and every millisecond or so calls Team::stopped.
struct StopPoll {
  static constexpr Index most = 50000000;
  const Team& team;
  Index work = 0;
  bool stopped = false;

  // With the overhead of a step or a loop.
  BPTT_INLINE static Index operations(Index rows, Index inputs, Index outputs) {
    return 2 * rows * inputs * outputs + 20000;
  }
  BPTT_INLINE bool stops(Index rows, Index inputs, Index outputs) {
    work += operations(rows, inputs, outputs);
    return work < most ? stopped : asks();
  }
  __attribute__((noinline)) bool asks() {
    work = 0;
    return stopped = stopped || team.stopped(team.context, team.rank);
  }
  // Calls f(n) for some of so many steps at a time, each of these operations, until it stops.
  template <class F>
  BPTT_INLINE void for_steps(Index steps, Index each, const F& f) {
    for (Index n; steps > 0 && !stopped; steps -= n) {
      n = (most - work) / each + 1;
      if (n > steps) n = steps;
      f(n);
      work += n * each;
      if (work >= most) asks();
    }
  }

  // Waits for all ranks; false: stop.
  bool wait() {
    if (team.size > 1 && !team.wait(team.context)) stopped = true;
    return !stopped;
  }
};

BPTT_KERNELS_END
