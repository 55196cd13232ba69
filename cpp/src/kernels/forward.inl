// SPDX-License-Identifier: MIT
// The forward loop: time, then panels of hidden units, then blocks of rows. A tile takes the
// products with x and h of all sums of its units, and the cell's equations follow while it is hot.

// The forward weights, packed.
template <class T, class Cell>
struct Weights {
  T *ih, *hh;  // by unit
  T* bias;     // [block][sum][lane]
  std::size_t bytes;

  Weights(void* buffer, const Dims& d) {
    Pieces pieces{static_cast<char*>(buffer)};
    ih = pieces.take<T>(unit_packed_size<T, Cell>(d.H, d.I));
    hh = pieces.take<T>(unit_packed_size<T, Cell>(d.H, d.H));
    bias = pieces.take<T>(unit_packed_size<T, Cell>(d.H, 1) / Cell::gates * Cell::sums);
    bytes = pieces.used;
  }
};

template <class T, class Cell>
bool pack(const ForwardCall<T>& call, const Team& team) {
  const Dims& d = call.dims;
  const Weights<T, Cell> weights(call.weights, d);
  Patience patience{team};
  const Range blocks = share_of(blocks_of<T>(d.H), unit_blocks<Cell>, team);
  pack_by_unit<T, Cell, XSide<Cell>>(call.w_ih, d.H, d.I, blocks, weights.ih, patience);
  pack_by_unit<T, Cell, HSide<Cell>>(call.w_hh, d.H, d.H, blocks, weights.hh, patience);
  if (team.rank == 0) pack_bias<T, Cell>(call.b_ih, call.b_hh, d.H, weights.bias);
  return patience.wait();
}

// Where a step is narrow, its products with x are taken before, for many steps at once: a row alone
// waits for the weights to come from the cache.
constexpr Index narrow_rows = 8;      // fewer are narrow
constexpr Index projected_rows = 32;  // taken at once

template <class T, class Cell>
struct ForwardScratch {
  T* h0;                  // [B, H], for inference
  T* states[max_states];  // from 1: [block][B][lane], for inference: updated in place
  T* sums;                // [row][block][sum][lane] of projected rows
  std::size_t bytes;

  ForwardScratch(void* buffer, const Dims& d) {
    Pieces pieces{static_cast<char*>(buffer)};
    const Index padded = blocks_of<T>(d.H) * lanes<T>;
    h0 = pieces.take<T>(d.B * d.H);
    for (int q = 1; q < Cell::states; ++q) states[q] = pieces.take<T>(d.B * padded);
    sums = pieces.take<T>(projected_rows * padded * Cell::sums);
    bytes = pieces.used;
  }
};

// Rows of a left operand and the panels of weights that they meet; K = 0: nothing.
template <class T>
struct Operands {
  const T* rows;
  Index K;
  const T* w;
};

// Sums of MR rows and P panels of NB blocks, [row][block][sum][lane] with `row_size` apart; `start`
// holds what they start from, in the same order, `start_row` apart.
template <class T, class Cell, int MR, int P, int NB>
__attribute__((noinline)) void forward_tile(const Operands<T>& x, const Operands<T>& h,
                                            const T* start, Index start_row, T* sums,
                                            Index row_size) {
  constexpr int G = Cell::gates, S = Cell::sums, V = P * NB * S;
  constexpr Index step = NB * G * lanes<T>;
  Tile<T, MR, V> acc;
  BPTT_UNROLL for (int r = 0; r < MR; ++r) BPTT_UNROLL for (int v = 0; v < V; ++v) acc[r][v] =
      load(start + r * start_row + v * lanes<T>);
  multiply_add<T, MR, P, NB, S, Cell::x_first, G>(acc, x.rows, x.K, 0, 1, x.w, x.K * step, step,
                                                  x.K);
  multiply_add<T, MR, P, NB, S, Cell::h_first, G>(acc, h.rows, h.K, 0, 1, h.w, h.K * step, step,
                                                  h.K);
  BPTT_UNROLL for (int r = 0; r < MR; ++r) BPTT_UNROLL for (int v = 0; v < V; ++v)
      store(sums + r * row_size + v * lanes<T>, acc[r][v]);
}

// Rows of one step that share where their previous state lies.
template <class T>
struct ForwardStep {
  Range rows;
  const T* x;                       // [row, I]
  const T* h;                       // [row, H]: before the step
  StepState<T> before[max_states];  // from 1
  StepState<T> after[max_states];   // from 1
  T* saved;                         // [block][row][value][lane] or null
  Index count;                      // rows of the whole step
  T* y;                             // [row, H] or null
  const T* sums;                    // projected, or null
};

template <class T, class Cell>
struct Forward {
  static constexpr int G = Cell::gates, S = Cell::sums;
  static constexpr Index L = lanes<T>;
  const ForwardCall<T>& call;
  const Dims& d;
  const Rows& rows;
  const Team& team;
  const Weights<T, Cell> weights;
  const Tape<T, Cell> tape;
  const ForwardScratch<T, Cell> scratch;
  const SegmentTape<T, Cell> values;  // of the segment at hand
  const bool again;                   // y is known, and only the values are wanted
  T* const h0;                        // [B, H]
  const Index blocks;
  const Range units;  // blocks of this rank
  States<T, Cell> states;
  Patience patience;

  Forward(const ForwardCall<T>& c, const Team& t, const SegmentTape<T, Cell>& segment_values,
          bool y_is_known)
      : call(c),
        d(c.dims),
        rows(c.rows),
        team(t),
        weights(c.weights, c.dims),
        tape(c.tape, c.dims, c.rows),
        scratch(c.scratch, c.dims),
        values(segment_values),
        again(y_is_known),
        h0(c.tape ? tape.h0 : scratch.h0),
        blocks(blocks_of<T>(d.H)),
        units(t.sequences ? Range{0, blocks} : share_of(blocks, column_blocks, t)),
        states{rows, d.T, d.B, blocks * L, {}, {}, {}, c.tape != nullptr, 0, 0, 0},
        patience{t} {
    for (int q = 1; q < Cell::states; ++q) {
      states.initial[q] = c.tape ? tape.state0[q] : scratch.states[q];
      states.starts[q] = tape.starts[q];
      states.steps[q] = c.tape ? values.states[q] : scratch.states[q];
    }
  }

  // Of `count` sequences, those of this rank.
  Range sequences(Index count) const {
    if (!team.sequences) return {0, count};
    return {smaller(team.sequences[team.rank], count),
            smaller(team.sequences[team.rank + 1], count)};
  }

  // --- one step

  // The cell's equations for `width` blocks from block j and some rows; sums is that of the first
  // of them, [row][block][sum][lane], row_size apart.
  __attribute__((noinline)) void forward_units(const ForwardStep<T>& step, Range r, Index j0,
                                               Index width, const T* sums, Index row_size) const {
    for (Index j = j0; j < j0 + width; ++j) {
      const Index used = used_lanes<T>(j, d.H);
      BPTT_NO_UNROLL for (Index row = r.begin; row < r.end; ++row) {
        const T* a_memory = sums + (row - r.begin) * row_size + (j - j0) * S * L;
        Vec<T> a[S], s0[Cell::states], s[Cell::states], k[Cell::saved + 1];
        BPTT_UNROLL for (int i = 0; i < S; ++i) a[i] = load(a_memory + i * L);
        if (Cell::passes_h) s0[0] = load(step.h + row * d.H + j * L, used);
        BPTT_UNROLL for (int q = 1; q < Cell::states; ++q) s0[q] = load(step.before[q].at(j, row));
        Cell::forward(call.options, a, s0, s, k);
        if (step.y) store(step.y + row * d.H + j * L, s[0].v, used);
        BPTT_UNROLL for (int q = 1; q < Cell::states; ++q) store(step.after[q].at(j, row), s[q].v);
        if (!step.saved) continue;
        T* kept = step.saved + (j * step.count + row) * Cell::saved * L;
        BPTT_UNROLL for (int i = 0; i < Cell::saved; ++i) store(kept + i * L, k[i].v);
      }
    }
  }

  // The lines that forward_units will touch: asked for before the products, they are there after
  // them.
  BPTT_INLINE void prefetch_units(const ForwardStep<T>& step, Index row, Index n, Index j,
                                  Index width) const {
    const std::size_t vector = BPTT_VECTOR_BYTES, count = static_cast<std::size_t>(n);
    for (Index r = row; r < row + n && step.y; ++r)
      prefetch_for_writing(step.y + r * d.H + j * L, static_cast<std::size_t>(width) * vector);
    for (Index b = j; b < j + width; ++b) {
      if (Cell::saved && step.saved)
        prefetch_for_writing(step.saved + (b * step.count + row) * Cell::saved * L,
                             count * Cell::saved * vector);
      for (int q = 1; q < Cell::states; ++q) {
        prefetch(step.before[q].at(b, row), count * vector);
        prefetch_for_writing(step.after[q].at(b, row), count * vector);
      }
    }
  }

  Operands<T> x_operands(const T* x, Index j) const {
    return {x, d.I, weights.ih + j * d.I * G * L};
  }
  Operands<T> h_operands(const T* h, Index j) const {
    return {h, d.H, weights.hh + j * d.H * G * L};
  }

  // Blocks of panels from block j: few rows take two panels at once, to have enough sums that do
  // not wait for each other.
  Index panel_width(Index j, Index end, Index n_rows) const {
    const Index width = unit_blocks<Cell>;
    return n_rows <= few_rows && j + 2 * width <= end ? 2 * width : smaller(width, end - j);
  }

  template <int MR>
  void tile(const Operands<T>& x, const Operands<T>& h, const T* start, Index start_row, T* sums,
            Index row_size, Index width) const {
    if constexpr (MR <= few_rows) {
      if (width == 2 * unit_blocks<Cell>)
        return forward_tile<T, Cell, MR, 2, unit_blocks<Cell>>(x, h, start, start_row, sums,
                                                               row_size);
    }
    with_int<unit_blocks<Cell>>(width, [&](auto nb) {
      forward_tile<T, Cell, MR, 1, nb.value>(x, h, start, start_row, sums, row_size);
    });
  }

  void forward_panel(const ForwardStep<T>& step, Index j, Index width) const {
    alignas(64) T sums[max_rows * 2 * unit_blocks<Cell> * S * L];
    const Index all = blocks * S * L;
    each_row_block(step.rows.begin, step.rows.end, [&](auto mr, Index row) {
      if (step.saved) prefetch_units(step, row, mr.value, j, width);
      const T* start = step.sums ? step.sums + row * all + j * S * L : weights.bias + j * S * L;
      Operands<T> x = x_operands(step.x + row * d.I, j);
      if (step.sums) x.K = 0;
      tile<mr.value>(x, h_operands(step.h + row * d.H, j), start, step.sums ? all : 0, sums,
                     width * S * L, width);
      forward_units(step, {row, row + mr.value}, j, width, sums, width * S * L);
    });
  }

  // Step t; `sums` holds those of its rows if they were projected, with h as well if y is known.
  void forward_step(Index t, const T* sums, bool with_h) {
    const StepRows step_rows(rows, d.T, t);
    const Range mine = sequences(step_rows.count);
    ForwardStep<T> parts[2]{};  // continuing, starting
    for (int i = 0; i < 2; ++i) {
      ForwardStep<T>& p = parts[i];
      p.x = call.x + rows.first[t] * d.I, p.y = again ? nullptr : call.y + rows.first[t] * d.H;
      p.saved = states.kept ? values.saved +
                                  (rows.first[t] - states.segment_row) * states.padded * Cell::saved
                            : nullptr;
      p.count = step_rows.count, p.sums = sums;
      p.h = i ? h0 : call.y + rows.first[step_rows.continuing ? step_rows.previous : t] * d.H;
      for (int q = 1; q < Cell::states; ++q) {
        p.after[q] = states.after(q, t);
        p.before[q] =
            i || !step_rows.continuing ? states.before_first(q) : states.before(q, t, step_rows);
      }
    }
    const Index middle = larger(mine.begin, smaller(mine.end, step_rows.continuing));
    parts[0].rows = {mine.begin, middle}, parts[1].rows = {middle, mine.end};
    for (Index j = units.begin; j < units.end;) {
      const Index width = panel_width(j, units.end, mine.end - mine.begin);
      if (patience.ends(mine.end - mine.begin, d.I + d.H, width * G * L)) return;
      for (const ForwardStep<T>& part : parts)
        if (part.rows.begin == part.rows.end)
          continue;
        else if (with_h)
          forward_units(part, part.rows, j, width,
                        sums + part.rows.begin * blocks * S * L + j * S * L, blocks * S * L);
        else
          forward_panel(part, j, width);
      j += width;
    }
    if (!team.sequences && !again) patience.wait();
  }

  // --- many narrow steps

  // How many steps from the n-th of a span, in the order of processing, to project at once; 0:
  // none.
  Index projectable(const Span& span, Index n) const {
    Index total = 0, steps = 0;
    for (; span.begin + n + steps < span.end; ++steps) {
      const Index t = step_of(span, n + steps);
      const StepRows step(rows, d.T, t);
      total += step.count;
      if (step.count >= narrow_rows || total > projected_rows || team.sequences) break;
      if (again && (step.continuing < step.count || rows.count[step.previous] != step.count)) break;
    }
    return d.T > 1 ? steps : 0;
  }
  Index step_of(const Span& span, Index n) const {
    return rows.reverse ? span.end - 1 - n : span.begin + n;
  }

  // Sums of the rows of `span`, from x and, where y is known, from h.
  void project(const Span& span) {
    const Index all = blocks * S * L;
    const T* h = call.y;
    if (again) h += rows.first[rows.reverse ? span.begin + 1 : span.begin - 1] * d.H;
    for (Index j = units.begin; j < units.end; j += unit_blocks<Cell>) {
      const Index width = smaller(unit_blocks<Cell>, units.end - j);
      if (patience.ends(span.rows, d.I + (again ? d.H : 0), width * G * L)) return;
      each_row_block(0, span.rows, [&](auto mr, Index row) {
        Operands<T> with_h = h_operands(h + row * d.H, j);
        if (!again) with_h.K = 0;
        tile<mr.value>(x_operands(call.x + (span.row + row) * d.I, j), with_h,
                       weights.bias + j * S * L, 0, scratch.sums + row * all + j * S * L, all,
                       width);
      });
    }
  }

  void run_steps(const Span& span) {
    for (Index n = 0; n < span.end - span.begin && !patience.stopped;) {
      const Index steps = projectable(span, n);
      if (!steps) {
        forward_step(step_of(span, n++), nullptr, false);
        continue;
      }
      const Index one = step_of(span, n), other = step_of(span, n + steps - 1);
      const Span together(rows, smaller(one, other), larger(one, other) + 1);
      project(together);
      for (const Index end = n + steps; n < end && !patience.stopped; ++n) {
        const Index t = step_of(span, n);
        forward_step(t, scratch.sums + (rows.first[t] - together.row) * blocks * S * L, again);
      }
    }
  }

  // --- the whole

  void copy_initial_state() {
    const Range mine = team.sequences ? sequences(d.B) : share_of(d.B, 1, team);
    for (Index i = mine.begin * d.H; i < mine.end * d.H; ++i)
      call.state_n[0][i] = h0[i] = call.state0[0] ? call.state0[0][i] : T(0);
    for (int q = 1; q < Cell::states; ++q) {
      to_blocks(call.state0[q], d.H, mine, states.before_first(q));
      from_blocks(states.before_first(q), d.H, mine, call.state_n[q]);
    }
  }

  // The values after the last step of the segment before become the start of segment s.
  void enter_segment(Index s) {
    const Span span = segment_span(rows, s);
    const Index last = rows.reverse ? span.end : span.begin - 1;
    if (last >= 0 && last < d.T && rows.segments > 1)
      for (int q = 1; q < Cell::states; ++q) {
        const StepState<T> from = states.after(q, last);
        const StepState<T> to{states.starts[q] + s * d.B * states.padded, d.B};
        const Range mine = sequences(rows.count[last]);
        for (Index j = units.begin; j < units.end; ++j)
          for (Index b = mine.begin; b < mine.end; ++b) store(to.at(j, b), load(from.at(j, b)));
      }
    states.enter(s);
  }

  // The states after the last step of the sequences that end in `span`; nobody's values change
  // meanwhile.
  void collect_final_states(const Span& span) const {
    const Range mine = team.sequences ? sequences(d.B) : share_of(d.B, 1, team);
    Index length = d.T;  // of sequence b: lengths only fall
    for (Index b = mine.begin; b < mine.end; ++b) {
      while (length > 0 && rows.count[length - 1] <= b) --length;
      const Index last = rows.reverse ? 0 : length - 1;
      if (!length || last < span.begin || last >= span.end) continue;
      __builtin_memcpy(call.state_n[0] + b * d.H, call.y + (rows.first[last] + b) * d.H,
                       static_cast<std::size_t>(d.H) * sizeof(T));
      for (int q = 1; q < Cell::states; ++q)
        from_blocks(states.after(q, last), d.H, {b, b + 1}, call.state_n[q]);
    }
  }

  bool run() {
    copy_initial_state();
    if (call.tape) {
      const Range xs = share_of(blocks_of<T>(d.I), column_blocks, team),
                  hs = share_of(blocks, column_blocks, team);
      pack_by_column<T, Cell, XSide<Cell>>(call.w_ih, d.H, d.I, xs, tape.w_ih, patience);
      pack_by_column<T, Cell, HSide<Cell>>(call.w_hh, d.H, d.H, hs, tape.w_hh, patience);
    }
    if (!patience.wait()) return false;
    for (Index k = 0; k < rows.segments && !patience.stopped; ++k) {
      const Index s = in_order(rows, rows.segments, k);
      enter_segment(s);
      run_steps(segment_span(rows, s));
      collect_final_states(segment_span(rows, s));
      patience.wait();
    }
    return !patience.stopped;
  }
};
