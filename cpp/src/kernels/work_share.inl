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
  const Team& team;
  Index work = 0;
  bool stopped = false;

  BPTT_INLINE bool stops(Index rows, Index inputs, Index outputs) {
    constexpr Index overhead = 20000;  // of a step or a loop, in operations
    work += 2 * rows * inputs * outputs + overhead;
    return work < 50000000 ? stopped : asks();
  }
  __attribute__((noinline)) bool asks() {
    work = 0;
    return stopped = stopped || team.stopped(team.context, team.rank);
  }

  // Waits for all ranks; false: stop.
  bool wait() {
    if (team.size > 1 && !team.wait(team.context)) stopped = true;
    return !stopped;
  }
};

BPTT_KERNELS_END
