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

// Counts floating-point operations, and every millisecond or so calls Team::stopped.
struct StopPoll {
  const Team& team;
  double work = 0;
  bool stopped = false;

  bool stops(Index rows, Index inputs, Index outputs) {
    constexpr double overhead = 2e4;  // of a step or a loop, in operations
    work += 2.0 * static_cast<double>(rows) * static_cast<double>(inputs) *
                static_cast<double>(outputs) +
            overhead;
    if (work < 5e7 || stopped) return stopped;
    work = 0;
    return stopped = team.stopped(team.context, team.rank);
  }

  // Waits for all ranks; false: stop.
  bool wait() {
    if (team.size > 1 && !team.wait(team.context)) stopped = true;
    return !stopped;
  }
};

BPTT_KERNELS_END
