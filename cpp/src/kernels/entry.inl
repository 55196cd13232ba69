// SPDX-License-Identifier: MIT
// What every function in the table of kernels does around its kernel: subnormal numbers count as
// zero while it runs, because many CPUs take a hundred times as long for them, and a vanishing
// gradient is full of them. The host's floating-point state neither matters nor changes, and the
// host's own functions run in it.
#pragma once
#include "kernels/float_state.hpp"
#include "kernels/target.inl"

BPTT_KERNELS_BEGIN

// A team like `host`, whose functions leave and enter the kernel's state.
struct EnteredTeam {
  const Team& host;
  FloatState state{FloatRegisters::flushing()};
  Team team = host;

  BPTT_INLINE explicit EnteredTeam(const Team& given) : host(given) {
    team.context = this;
    team.wait = [](void* self) {  // computes nothing
      const Team& of = static_cast<EnteredTeam*>(self)->host;
      return of.wait(of.context);
    };
    team.stopped = [](void* self, int rank) {
      auto* entered = static_cast<EnteredTeam*>(self);
      const Team& of = entered->host;
      return entered->state.in_host([&] { return of.stopped(of.context, rank); });
    };
  }
};

// Entry<kernel>::run has the kernel's signature.
template <auto kernel>
struct Entry;
template <class Call, bool (*kernel)(const Call&, const Team&)>
struct Entry<kernel> {
  static bool run(const Call& call, const Team& team) {
    const EnteredTeam entered(team);
    return kernel(call, entered.team);
  }
};
template <class... Args, void (*kernel)(Args...)>
struct Entry<kernel> {
  static void run(Args... args) {
    const FloatState state(FloatRegisters::flushing());
    kernel(args...);
  }
};

BPTT_KERNELS_END
