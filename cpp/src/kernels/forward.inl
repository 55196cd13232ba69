// SPDX-License-Identifier: MIT
// The forward loop: time, then panels of hidden units, then blocks of rows. A tile takes the
// products with x and h of all sums of its units, and the cell's equations follow while it is hot.

template <class T, class Cell>
struct ForwardScratch {
  T *w_ih, *w_hh;         // by unit
  T* bias;                // [block][sum][lane]
  T* h0;                  // [B, H], for inference
  T* states[max_states];  // from 1: [block][B][lane], for inference: updated in place
  std::size_t bytes;

  ForwardScratch(void* buffer, const Dims& d) {
    Pieces pieces{static_cast<char*>(buffer)};
    const Index padded = blocks_of<T>(d.H) * lanes<T>;
    w_ih = pieces.take<T>(unit_packed_size<T, Cell>(d.H, d.I));
    w_hh = pieces.take<T>(unit_packed_size<T, Cell>(d.H, d.H));
    bias = pieces.take<T>(padded * Cell::sums);
    h0 = pieces.take<T>(d.B * d.H);
    for (int q = 1; q < Cell::states; ++q) states[q] = pieces.take<T>(d.B * padded);
    bytes = pieces.used;
  }
};

// One step for rows that share where their previous state lies.
template <class T>
struct ForwardStep {
  const T* x;                       // [row, I]
  const T* h;                       // [row, H]: before the step
  StepState<T> before[max_states];  // from 1
  StepState<T> after[max_states];   // from 1
  T* saved;                         // [block][rows][value][lane] or null
  Index rows;                       // of the whole step
  T* y;                             // [row, H]
};

template <class T, class Cell, int MR, int NB>
__attribute__((noinline)) void forward_tile(const Dims& d, const T* x, const T* w_ih, const T* h,
                                            const T* w_hh, const T* bias, T* sums) {
  constexpr int G = Cell::gates, S = Cell::sums;
  Tile<T, MR, NB * S> acc;
  BPTT_UNROLL for (int r = 0; r < MR; ++r) BPTT_UNROLL for (int v = 0; v < NB * S; ++v) acc[r][v] =
      load(bias + v * lanes<T>);
  constexpr Index block = G * lanes<T>;
  multiply_add<T, MR, NB, S, Cell::x_first, G>(acc, x, d.I, 1, w_ih, NB * block, block, d.I);
  multiply_add<T, MR, NB, S, Cell::h_first, G>(acc, h, d.H, 1, w_hh, NB * block, block, d.H);
  store_tile<T, MR, NB * S>(sums, acc);
}

// The cell's equations for `width` blocks from block j and MR rows; sums is
// [row][block][sum][lane].
template <class T, class Cell>
__attribute__((noinline)) void forward_units(const ForwardCall<T>& call, const ForwardStep<T>& step,
                                             Index row, Index rows, Index j0, Index width,
                                             const T* sums) {
  const Index H = call.dims.H;
  for (Index j = j0; j < j0 + width; ++j) {
    const Index used = used_lanes<T>(j, H);
    BPTT_NO_UNROLL for (Index r = row; r < row + rows; ++r) {
      const T* a_memory = sums + ((r - row) * width + j - j0) * Cell::sums * lanes<T>;
      Vec<T> a[Cell::sums], s0[Cell::states], s[Cell::states], k[Cell::saved + 1];
      BPTT_UNROLL for (int i = 0; i < Cell::sums; ++i) a[i] = load(a_memory + i * lanes<T>);
      if (Cell::passes_h) s0[0] = load(step.h + r * H + j * lanes<T>, used);
      BPTT_UNROLL for (int q = 1; q < Cell::states; ++q) s0[q] = load(step.before[q].at(j, r));
      Cell::forward(call.options, a, s0, s, k);
      store(step.y + r * H + j * lanes<T>, s[0].v, used);
      BPTT_UNROLL for (int q = 1; q < Cell::states; ++q) store(step.after[q].at(j, r), s[q].v);
      if (!step.saved) continue;
      T* kept = step.saved + (j * step.rows + r) * Cell::saved * lanes<T>;
      BPTT_UNROLL for (int i = 0; i < Cell::saved; ++i) store(kept + i * lanes<T>, k[i].v);
    }
  }
}

// The lines that forward_units will touch: asked for before the products, they are there after
// them.
template <class T, class Cell>
BPTT_INLINE void prefetch_forward(const ForwardStep<T>& step, Index H, Index row, Index rows,
                                  Index j, Index width) {
  const std::size_t vector = BPTT_VECTOR_BYTES, n = static_cast<std::size_t>(rows);
  for (Index r = row; r < row + rows; ++r)
    prefetch_for_writing(step.y + r * H + j * lanes<T>, static_cast<std::size_t>(width) * vector);
  for (Index b = j; b < j + width; ++b) {
    if (Cell::saved && step.saved)
      prefetch_for_writing(step.saved + (b * step.rows + row) * Cell::saved * lanes<T>,
                           n * Cell::saved * vector);
    for (int q = 1; q < Cell::states; ++q) {
      prefetch(step.before[q].at(b, row), n * vector);
      prefetch_for_writing(step.after[q].at(b, row), n * vector);
    }
  }
}

template <class T, class Cell>
void forward_panel(const ForwardCall<T>& call, const ForwardScratch<T, Cell>& scratch,
                   const ForwardStep<T>& step, Index begin, Index end, Index j) {
  const Dims& d = call.dims;
  constexpr Index row_size = unit_blocks<Cell> * Cell::sums * lanes<T>;
  alignas(64) T sums[max_rows * row_size];
  const Index width = smaller(unit_blocks<Cell>, blocks_of<T>(d.H) - j);
  const T* w_ih = scratch.w_ih + j * d.I * Cell::gates * lanes<T>;
  const T* w_hh = scratch.w_hh + j * d.H * Cell::gates * lanes<T>;
  const T* bias = scratch.bias + j * Cell::sums * lanes<T>;
  each_row_block(begin, end, [&](auto mr, Index row) {
    prefetch_forward<T, Cell>(step, d.H, row, mr.value, j, width);
    with_int<unit_blocks<Cell>>(width, [&](auto nb) {
      forward_tile<T, Cell, mr.value, nb.value>(d, step.x + row * d.I, w_ih, step.h + row * d.H,
                                                w_hh, bias, sums);
    });
    forward_units<T, Cell>(call, step, row, mr.value, j, width, sums);
  });
}

// Where the states beside h lie: in the tape one after the other, in inference in one place,
// updated as it goes.
template <class T, class Cell>
struct ForwardStates {
  const T* h0;
  T *initial[max_states], *steps[max_states];
  const Rows& rows;
  Index B, padded;
  bool keep;

  ForwardStates(const ForwardCall<T>& call, const Tape<T, Cell>& tape,
                const ForwardScratch<T, Cell>& scratch)
      : rows(call.rows),
        B(call.dims.B),
        padded(blocks_of<T>(call.dims.H) * lanes<T>),
        keep(call.tape) {
    T* h = keep ? tape.h0 : scratch.h0;
    for (Index i = 0; i < B * call.dims.H; ++i) h[i] = call.state0[0] ? call.state0[0][i] : T(0);
    h0 = h;
    for (int q = 1; q < Cell::states; ++q) {
      initial[q] = keep ? tape.state0[q] : scratch.states[q];
      steps[q] = keep ? tape.states[q] : scratch.states[q];
      to_blocks(call.state0[q], B, call.dims.H, initial[q]);
    }
  }
  StepState<T> before_first(int q) const { return {initial[q], B}; }
  StepState<T> after(int q, Index t) const {
    if (!keep) return {steps[q], B};
    return {steps[q] + rows.first[t] * padded, rows.count[t]};
  }
};

// The states after each sequence's last step; a sequence of length 0 keeps its initial state.
template <class T, class Cell>
void collect_final_states(const ForwardCall<T>& call, const ForwardStates<T, Cell>& states) {
  const Dims& d = call.dims;
  Index length = d.T;  // of sequence b: lengths only fall
  for (Index b = 0; b < d.B; ++b) {
    while (length > 0 && call.rows.count[length - 1] <= b) --length;
    const Index last = call.rows.reverse ? 0 : length - 1;
    const T* h = length ? call.y + (call.rows.first[last] + b) * d.H : states.h0 + b * d.H;
    __builtin_memcpy(call.state_n[0] + b * d.H, h, static_cast<std::size_t>(d.H) * sizeof(T));
    for (int q = 1; q < Cell::states; ++q) {
      const StepState<T> state = length ? states.after(q, last) : states.before_first(q);
      for (Index j = 0; j < blocks_of<T>(d.H); ++j)
        store(call.state_n[q] + b * d.H + j * lanes<T>, load(state.at(j, b)),
              used_lanes<T>(j, d.H));
    }
  }
}

template <class T, class Cell>
void forward_step(const ForwardCall<T>& call, const ForwardScratch<T, Cell>& scratch,
                  const ForwardStates<T, Cell>& states, T* saved, Index t, Patience& patience) {
  const Dims& d = call.dims;
  const StepRows rows(call.rows, d.T, t);
  ForwardStep<T> continuing{}, starting{};
  continuing.x = call.x + call.rows.first[t] * d.I;
  continuing.y = call.y + call.rows.first[t] * d.H;
  continuing.saved = saved ? saved + call.rows.first[t] * states.padded * Cell::saved : nullptr;
  continuing.rows = rows.count;
  for (int q = 1; q < Cell::states; ++q) continuing.after[q] = states.after(q, t);
  starting = continuing;
  starting.h = states.h0;
  for (int q = 1; q < Cell::states; ++q) starting.before[q] = states.before_first(q);
  if (rows.continuing) {
    continuing.h = call.y + call.rows.first[rows.previous] * d.H;
    for (int q = 1; q < Cell::states; ++q) continuing.before[q] = states.after(q, rows.previous);
  }
  for (Index j = 0; j < blocks_of<T>(d.H); j += unit_blocks<Cell>) {
    if (patience.ends(rows.count, d.I + d.H, unit_blocks<Cell> * Cell::gates * lanes<T>)) return;
    forward_panel<T, Cell>(call, scratch, continuing, 0, rows.continuing, j);
    forward_panel<T, Cell>(call, scratch, starting, rows.continuing, rows.count, j);
  }
}

template <class T, class Cell>
bool forward(const ForwardCall<T>& call) {
  const Dims& d = call.dims;
  const ForwardScratch<T, Cell> scratch(call.scratch, d);
  const Tape<T, Cell> tape(call.tape, d, call.rows.first[d.T]);
  Patience patience{call.interrupt};
  pack_by_unit<T, Cell, XSide<Cell>>(call.w_ih, d.H, d.I, scratch.w_ih, patience);
  pack_by_unit<T, Cell, HSide<Cell>>(call.w_hh, d.H, d.H, scratch.w_hh, patience);
  pack_bias<T, Cell>(call.b_ih, call.b_hh, d.H, scratch.bias);
  if (call.tape) {
    pack_by_column<T, Cell, XSide<Cell>>(call.w_ih, d.H, d.I, tape.w_ih, patience);
    pack_by_column<T, Cell, HSide<Cell>>(call.w_hh, d.H, d.H, tape.w_hh, patience);
  }
  const ForwardStates<T, Cell> states(call, tape, scratch);
  for (Index n = 0; n < d.T && !patience.stopped; ++n) {
    const Index t = call.rows.reverse ? d.T - 1 - n : n;
    forward_step<T, Cell>(call, scratch, states, call.tape ? tape.saved : nullptr, t, patience);
  }
  if (patience.stopped) return false;
  collect_final_states<T, Cell>(call, states);
  return true;
}
