// SPDX-License-Identifier: MIT
// Reads the gates and states of a forward pass from its tape.
#pragma once
#include "cells/activations.inl"
#include "kernels/callback.inl"
#include "kernels/step/trace.inl"

BPTT_KERNELS_BEGIN

template <class T>
using GatesOf = void (*)(const Options&, const Vec<T>* p, const Vec<T>* k, const Vec<T>* s0,
                         Vec<T>* v);

// Calls f(row, block, values) for all rows; values are the gates from `gates`, then the states
// beside h. The tape holds all steps in one segment.
template <class Backend>
void for_each_value(const BackwardCall<typename Backend::T>& call,
                    GatesOf<typename Backend::T> gates,
                    const Callback<Index, Index, const Vec<typename Backend::T>*>& f) {
  using T = typename Backend::T;
  using Cell = typename Backend::Cell;
  constexpr Index L = lanes<T>;
  const Dims& d = call.dims;
  const Rows& rows = call.rows;
  const Index blocks = blocks_of<T>(d.H);
  const Tape<Backend> tape({const_cast<void*>(call.tape)}, d, rows);
  States<T, Cell> states(rows, d, true);
  for (int q = 1; q < Cell::states; ++q)
    states.initial[q] = tape.state0[q], states.steps[q] = tape.last.states[q];
  if (rows.segments) states.enter(0);
  for (Index t = 0; t < d.T; ++t) {
    const StepRows step(rows, d.T, t);
    const Index first = rows.first[t];
    for (Index j = 0; j < blocks; ++j)
      for (Index row = 0; row < step.count; ++row) {
        Vec<T> p[Cell::params + 1], k[Cell::saved + 1], s0[max_states]{},
            v[Cell::values + Cell::states]{};
        for (int i = 0; i < Cell::params; ++i)
          p[i] = load(tape.params + (j * Cell::params + i) * L);
        for (int i = 0; i < Cell::saved; ++i)
          k[i] = load(tape.last.saved + (first * blocks + j * step.count + row) * Cell::saved * L +
                      i * L);
        for (int q = 1; q < Cell::states; ++q)
          s0[q] =
              load((row < step.continuing ? states.after(q, step.previous) : states.before_first(q))
                       .at(j, row));
        gates(call.options, p, k, s0, v);
        for (int q = 1; q < Cell::states; ++q)
          v[Cell::values + q - 1] = load(states.after(q, t).at(j, row));
        f(first + row, j, v);
      }
  }
}

// Writes number `index` of Cell::names to out [R, H].
template <class Backend>
void read(const BackwardCall<typename Backend::T>& call, int index, typename Backend::T* out) {
  using T = typename Backend::T;
  const Index H = call.dims.H;
  for_each_value<Backend>(call, Backend::Cell::template read<Vec<T>>,
                          [&](Index row, Index j, const Vec<T>* v) {
                            store(out + row * H + j * lanes<T>, v[index].v, used_lanes<T>(j, H));
                          });
}

#if !defined(BPTT_DUAL)
// Adds to the count of each gate how many of the used lanes are not between its bounds.
template <class T>
BPTT_SHARED void add_outside(const Vec<T>* v, int gates, Index used, const double* low,
                             const double* high, double* counts) {
  const Native<T> zero = broadcast(T(0)), one = broadcast(T(1));
  for (int k = 0; k < gates; ++k) {
    const Native<T> value = v[k].v, least = broadcast(T(low[k])), most = broadcast(T(high[k]));
    const auto outside = (value < least) | (value > most);  // NaN is not
    T lane[lanes<T>];
    store(lane, outside ? one : zero);
    counts[k] += static_cast<double>(sum_of_lanes<T>(load(lane, used)));
  }
}

// Adds to counts [R, gates] how many values of a row's activations are not between their bounds, by
// gate.
template <class Backend>
void count_outside(const BackwardCall<typename Backend::T>& call, const double* low,
                   const double* high, double* counts) {
  using T = typename Backend::T;
  constexpr int gates = Backend::Cell::values;
  for_each_value<Backend>(call, read_activations<typename Backend::Cell, Vec<T>>,
                          [&](Index row, Index j, const Vec<T>* v) {
                            add_outside<T>(v, gates, used_lanes<T>(j, call.dims.H), low, high,
                                           counts + row * gates);
                          });
}
#endif

BPTT_KERNELS_END
