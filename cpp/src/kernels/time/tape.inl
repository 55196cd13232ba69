// SPDX-License-Identifier: MIT
// The states that one step hands to the next, and the memory that the forward pass keeps for the
// backward pass.
#pragma once
#include "kernels/step/recurrent_operand.inl"

BPTT_KERNELS_BEGIN

// Rows [0, continuing) of step t continue a sequence from `previous`, the step before it in the
// order of processing; rows [continuing, count) start from the initial state.
struct StepRows {
  Index count, continuing, previous;
  StepRows(const Rows& rows, Index steps, Index t) {
    previous = rows.reverse ? t + 1 : t - 1;
    count = rows.count[t];
    const bool inside = previous >= 0 && previous < steps;
    continuing = smaller(inside ? rows.count[previous] : 0, count);
  }
  // Are the rows of the step before the same? Without rows there may be no step before.
  bool same_before(const Rows& rows) const {
    return count > 0 && continuing == count && rows.count[previous] == count;
  }
};

// Steps [begin, end), rows [row, row + rows) of x, y and the tape.
struct Span {
  Index begin, end, row, rows;
  Span(const Rows& r, Index b, Index e)
      : begin(b), end(e), row(r.first[b]), rows(r.first[e] - r.first[b]) {}
};
BPTT_INLINE Span chunk_span(const Rows& r, Index c) { return {r, r.chunk[c], r.chunk[c + 1]}; }
BPTT_INLINE Span segment_span(const Rows& r, Index s) {
  return {r, r.chunk[r.segment[s]], r.chunk[r.segment[s + 1]]};
}
// The k-th of n chunks or segments in the order of processing.
BPTT_INLINE Index in_order(const Rows& r, Index n, Index k) { return r.reverse ? n - 1 - k : k; }

// 1 / standard deviation of w_ih x, of w_hh h, of c', and the mean of c' in two parts.
constexpr int moments_of_row = 5;

// The values of one segment that the backward pass needs.
template <class T, class Cell>
struct SegmentTape {
  T* saved;               // [step] of [block][row in step][value][lane]
  T* states[max_states];  // from 1: [step] of [block][row in step][lane]: after each step
  T* second_operand;      // [row, H]: the operand of the second product
  T* moments;             // [row, moments_of_row]: of what was normalised

  SegmentTape(Arena& arena, const Dims& d, Index rows) {
    const Index padded = blocks_of<T>(d.H) * lanes<T>;
    for (int q = 1; q < Cell::states; ++q) states[q] = arena.take<T>(rows * padded);
    saved = arena.take<T>(rows * padded * Cell::saved);
    second_operand = Cell::second_product ? arena.take<T>(rows * d.H) : nullptr;
    moments = Cell::layer_norm ? arena.take<T>(rows * moments_of_row) : nullptr;
  }
};

// From the arrays of a step to those of the next one, where both have the same rows: elements; 0
// for arrays that are null, or the same for every step.
struct StepStride {
  Index t, x, y, h, operand, state, saved, second_operand, moments, sums;
};

// Rows of one step whose previous state is in the same array.
template <class T>
struct ForwardStep {
  Range rows;
  Index t;
  const T* x;                       // [row, I]
  const T* h;                       // [row, P]: before the step
  const T* operand;                 // [row, U]: of the product with w_hh
  StepState<T> before[max_states];  // from 1
  StepState<T> after[max_states];   // from 1
  T* saved;                         // [block][row][value][lane] or null
  Index count;                      // rows of the whole step
  Index saved_rows;                 // of a block of `saved`: ranks may be in other steps
  T* y;                             // [row, P] or null
  T* second_operand;                // [row, H]: the operand of the second product, or null
  T* moments;                       // [row, moments_of_row] or null
  T* sums;                          // projected, or null: [row][block][sum][lane]
  bool whole;                       // are the products with h in `sums`, too?

  // Moves by n steps that are `by` apart.
  BPTT_INLINE void move(const StepStride& by, int states, Index n = 1) {
    t += n * by.t, x += n * by.x, y += n * by.y, h += n * by.h, operand += n * by.operand;
    saved += n * by.saved, second_operand += n * by.second_operand, moments += n * by.moments;
    sums += n * by.sums;
    for (int q = 1; q < states; ++q) before[q].base += n * by.state, after[q].base += n * by.state;
  }
};

// The places of one block of units in one row of a step.
template <class T, class Cell>
struct UnitPlaces {
  static constexpr Index L = lanes<T>;
  const T *sums, *h, *params, *before[max_states];
  T *y, *saved, *after[max_states];

  BPTT_INLINE UnitPlaces(const ForwardStep<T>& step, const Dims& d, const T* all_params, Index row,
                         Index j, const T* first_sums)
      : sums(first_sums),
        h(step.h + row * d.P + j * L),
        params(all_params + j * Cell::params * L),
        y(step.y ? step.y + row * d.P + j * L : nullptr),
        saved(step.saved ? step.saved + (j * step.saved_rows + row) * Cell::saved * L : nullptr) {
    for (int q = 1; q < Cell::states; ++q)
      before[q] = step.before[q].at(j, row), after[q] = step.after[q].at(j, row);
  }
  BPTT_INLINE void next(const ForwardStep<T>& step) {
    if (!Cell::layer_norm) sums += Cell::sums * L;  // else they are among the saved values
    h += L, params += Cell::params * L;
    if (y) y += L;
    if (saved) saved += step.saved_rows * Cell::saved * L;
    for (int q = 1; q < Cell::states; ++q)
      before[q] += step.before[q].rows * L, after[q] += step.after[q].rows * L;
  }
  BPTT_INLINE void move(const StepStride& by) {
    h += by.h, y += by.y, saved += by.saved;
    for (int q = 1; q < Cell::states; ++q) before[q] += by.state, after[q] += by.state;
  }
};

// The places of the states beside h: one after the other in the values of a segment, or, for
// inference, one place that every step updates.
template <class T, class Cell>
struct States {
  const Rows& rows;
  const Index B, padded;
  const bool kept;
  T *initial[max_states]{}, *starts[max_states]{}, *steps[max_states]{};  // as in Tape
  // The current segment, and its first step in the order of processing.
  Index segment = 0, segment_row = 0, segment_first = 0;

  States(const Rows& r, const Dims& d, bool keeps)
      : rows(r), B(d.B), padded(blocks_of<T>(d.H) * lanes<T>), kept(keeps) {}

  StepState<T> after(int q, Index t) const {
    if (!kept) return {steps[q], B};
    return {steps[q] + (rows.first[t] - segment_row) * padded, rows.count[t]};
  }
  StepState<T> before_first(int q) const { return {initial[q], B}; }
  // Before step t, for the rows that continue.
  StepState<T> before(int q, Index t, const StepRows& step) const {
    if (kept && t == segment_first) return {starts[q] + segment * B * padded, B};
    return after(q, step.previous);
  }
  void enter(Index s) {
    const Span span = segment_span(rows, s);
    segment = s, segment_row = span.row;
    segment_first = rows.reverse ? span.end - 1 : span.begin;
  }
};

// The memory that the backward pass needs beside x and y.
template <class Backend>
struct Tape {
  using T = typename Backend::T;
  using Cell = typename Backend::Cell;
  typename Backend::Column *w_ih, *w_hh;  // by column
  T* w_second;                            // by column: of the second product
  T* h0;                                  // [B, P]
  RecurrentOperand<T, Cell> operand;
  T* params;              // [block][param][lane]
  T* state0[max_states];  // from 1: [block][B][lane]
  T* starts[max_states];  // from 1: [segment] of [block][B][lane]: before its first step
  SegmentTape<T, Cell> last;
  std::size_t bytes;

  // The operand of the product with w_hh: [B, U] before the first step, [R, U] after each.
  const T* operand_before() const { return operand.initial ? operand.initial : h0; }
  const T* operand_after(const T* y) const { return operand.after ? operand.after : y; }

  Tape(Arena arena, const Dims& d, const Rows& rows) : last(arena, d, rows.segment_rows) {
    const Index padded = blocks_of<T>(d.H) * lanes<T>;
    w_ih =
        arena.take<typename Backend::Column>(Backend::template column_size<XSide<Cell>>(d.H, d.I));
    w_hh =
        arena.take<typename Backend::Column>(Backend::template column_size<HSide<Cell>>(d.H, d.P));
    if constexpr (Cell::second_product)
      w_second =
          arena.take<T>(column_packed_size<T, HSide<typename Cell::SecondProduct>>(d.P, d.H));
    h0 = arena.take<T>(d.B * d.P);
    operand = RecurrentOperand<T, Cell>(arena, d, rows.total);
    params = arena.take<T>(padded * Cell::params);
    for (int q = 1; q < Cell::states; ++q) {
      state0[q] = arena.take<T>(d.B * padded);
      starts[q] = rows.segments > 1 ? arena.take<T>(rows.segments * d.B * padded) : nullptr;
    }
    bytes = arena.used;
  }
};

// The products with x of narrow steps are computed before, for many steps at once: a single row
// would wait for the weights to come from the cache.
constexpr Index narrow_rows = 8;      // fewer are narrow
constexpr Index projected_rows = 32;  // at once

BPTT_KERNELS_END
