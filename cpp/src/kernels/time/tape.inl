// SPDX-License-Identifier: MIT
// What one step hands to the next, and what the forward pass keeps for the backward pass.

// Which rows of step t continue a sequence from `previous`, the step before it in the order of
// processing, and which start from the initial state: [0, continuing) and [continuing, count).
struct StepRows {
  Index count, continuing, previous;
  StepRows(const Rows& rows, Index T, Index t) {
    previous = rows.reverse ? t + 1 : t - 1;
    count = rows.count[t];
    continuing = previous < 0 || previous >= T ? 0 : smaller(rows.count[previous], count);
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

// 1 / deviation of N(w_ih x), of N(w_hh h), of N(c'), and the mean of c' in two parts.
constexpr int moments_of_row = 5;

// The values that the backward pass needs of one segment.
template <class T, class Cell>
struct SegmentTape {
  T* saved;               // [step] of [block][row in step][value][lane]
  T* states[max_states];  // from 1: [step] of [block][row in step][lane]: after each step
  T* inner;               // [row, H]: the operand of the inner product
  T* moments;             // [row, moments_of_row]: of what was normalised

  SegmentTape(Pieces& pieces, const Dims& d, Index rows) {
    const Index padded = blocks_of<T>(d.H) * lanes<T>;
    for (int q = 1; q < Cell::states; ++q) states[q] = pieces.take<T>(rows * padded);
    saved = pieces.take<T>(rows * padded * Cell::saved);
    inner = Cell::inner ? pieces.take<T>(rows * d.H) : nullptr;
    moments = normal<Cell> ? pieces.take<T>(rows * moments_of_row) : nullptr;
  }
};

// What the product with w_hh sees, if that is not h itself.
template <class T>
struct Masked {
  T *h0 = nullptr, *h = nullptr;  // [B, U] and [R, U]: before the first step, and after each
  Masked() = default;
  Masked(Pieces& pieces, const Dims& d, Index rows) {
    if (!d.masked) return;
    h0 = pieces.take<T>(d.B * d.U);
    h = pieces.take<T>(rows * d.U);
  }
};

// Rows of one step that share where their previous state lies.
template <class T>
struct ForwardStep {
  Range rows;
  Index t;
  const T* x;                       // [row, I]
  const T* h;                       // [row, P]: before the step
  const T* operand;                 // [row, U]: of the product with w_hh: h, or h masked
  StepState<T> before[max_states];  // from 1
  StepState<T> after[max_states];   // from 1
  T* saved;                         // [block][row][value][lane] or null
  Index count;                      // rows of the whole step
  Index saved_rows;                 // in a block of `saved`: ranks may be in other steps than this
  T* y;                             // [row, P] or null
  T* inner;                         // [row, H]: the operand of the inner product, or null
  T* moments;                       // [row, moments_of_row] or null
  const T* sums;                    // projected, or null
};

// Where the states beside h lie: one after the other in the values of a segment, or, for inference,
// in one place, updated as it goes.
template <class T, class Cell>
struct States {
  const Rows& rows;
  Index T_steps, B, padded;
  T *initial[max_states], *starts[max_states], *steps[max_states];
  bool kept;
  Index segment, segment_row, segment_first;  // at hand; its first step in the order of processing

  StepState<T> after(int q, Index t) const {
    if (!kept) return {steps[q], B};
    return {steps[q] + (rows.first[t] - segment_row) * padded, rows.count[t]};
  }
  StepState<T> before_first(int q) const { return {initial[q], B}; }
  // Before step t, of the rows that continue.
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

// What the backward pass needs beside x and y.
template <class P>
struct Tape {
  using T = typename P::T;
  using Cell = typename P::Cell;
  typename P::Column *w_ih, *w_hh;  // by column
  T* w_inner;                       // by column: of the inner product
  T* h0;                            // [B, P]
  Masked<T> masked;
  T* params;              // [block][param][lane]
  T* state0[max_states];  // from 1: [block][B][lane]
  T* starts[max_states];  // from 1: [segment] of [block][B][lane]: before its first step
  SegmentTape<T, Cell> last;
  std::size_t bytes;

  Tape(void* buffer, const Dims& d, const Rows& rows)
      : Tape(Pieces{static_cast<char*>(buffer)}, d, rows) {}

 private:
  Tape(Pieces pieces, const Dims& d, const Rows& rows) : last(pieces, d, rows.segment_rows) {
    const Index padded = blocks_of<T>(d.H) * lanes<T>;
    w_ih = pieces.take<typename P::Column>(P::template column_size<XSide<Cell>>(d.H, d.I));
    w_hh = pieces.take<typename P::Column>(P::template column_size<HSide<Cell>>(d.H, d.P));
    if constexpr (Cell::inner)
      w_inner = pieces.take<T>(column_packed_size<T, HSide<typename Cell::Inner>>(d.P, d.H));
    h0 = pieces.take<T>(d.B * d.P);
    masked = Masked<T>(pieces, d, rows.total);
    params = pieces.take<T>(padded * Cell::params);
    for (int q = 1; q < Cell::states; ++q) {
      state0[q] = pieces.take<T>(d.B * padded);
      starts[q] = rows.segments > 1 ? pieces.take<T>(rows.segments * d.B * padded) : nullptr;
    }
    bytes = pieces.used;
  }
};

// Where a step is narrow, its products with x are taken before, for many steps at once: a row alone
// waits for the weights to come from the cache.
constexpr Index narrow_rows = 8;      // fewer are narrow
constexpr Index projected_rows = 32;  // taken at once
