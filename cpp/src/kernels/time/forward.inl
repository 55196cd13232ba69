// SPDX-License-Identifier: MIT
// The forward loop: time, then panels of hidden units, then blocks of rows. A tile takes the
// products with x and h of all sums of its units, and the cell's equations follow while it is hot.

template <class P>
struct Forward {
  using T = typename P::T;
  using Cell = typename P::Cell;
  static constexpr int G = Cell::gates, S = Cell::sums;
  static constexpr Index L = lanes<T>;
  const ForwardCall<T>& call;
  const Dims& d;
  const Rows& rows;
  const Team& team;
  const typename P::Weights weights;
  const Tape<P> tape;
  const ForwardScratch<P> scratch;
  const typename P::Forward products;
  const SegmentTape<T, Cell> values;  // of the segment at hand
  const bool again;                   // y is known, and only the values are wanted
  T* const h0;                        // [B, P]
  const Masked<T> masked;
  const Skips<T> skips;
  const Index blocks;
  const Range units, outputs;  // blocks of this rank: of hidden units, and of h
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
        scratch(c.scratch, c.dims, c.rows.total),
        products(c, weights, scratch.products),
        values(segment_values),
        again(y_is_known),
        h0(c.tape ? tape.h0 : scratch.h0),
        masked(c.tape ? tape.masked : scratch.masked),
        skips{c.dims, c.rows, c.y, h0, c.extras.skip},
        blocks(blocks_of<T>(d.H)),
        units(blocks_of_rank(d.H)),
        outputs(blocks_of_rank(d.P)),
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

  // Of n units.
  Range blocks_of_rank(Index n) const {
    const Index all = blocks_of<T>(n);
    return team.sequences ? Range{0, all} : share_of(all, column_blocks, team);
  }

  // --- one step

  // After the equations: part of the old states stays, beside that of h.
  BPTT_INLINE void finish_states(Index t, Index row, Index j, const Vec<T>* s0, Vec<T>* s) const {
    const Index used = used_lanes<T>(j, d.H), at = (rows.first[t] + row) * d.H + j * L;
    BPTT_UNROLL for (int q = 1; q < zoned_states<Cell>; ++q) {
      s[q] = mixed(zoneout_beside<Cell>(call.extras, q, at, used, s0), s0[q], s[q]);
    }
  }
  // Part of the old h stays, an earlier h is added, and h is masked for the next product.
  BPTT_INLINE void finish_h(Index t, Index row, Index j, Vec<T> h0, Vec<T>& h) const {
    const Index used = used_lanes<T>(j, d.P), at = (rows.first[t] + row) * d.P + j * L;
    const Vec<T> z = zoneout(call.extras, 0, at, used);
    h = mixed(z, h0, h);
    if (const T* earlier = skips.of(t, row)) h = h + Vec<T>(load(earlier + j * L, used));
    if (masked.h && !again && !truncated<Cell>)
      store(masked.h + at, (h * Vec<T>(load(call.extras.h_mask + row * d.P + j * L, used))).v,
            used);
  }

  // h as the step made it.
  BPTT_INLINE void finish_h(const ForwardStep<T>& step, Index row, Index j, Index used, Vec<T> h0,
                            Vec<T>& h) const {
    if constexpr (Cell::general && !Cell::inner) finish_h(step.t, row, j, h0, h);
    if constexpr (Cell::inner)
      store(step.inner + row * d.H + j * L, h.v, used);
    else if (step.y)
      store(step.y + row * d.P + j * L, h.v, used);
  }

  // The cell's equations for `width` blocks from block j and some rows; sums is that of the first
  // of them, [row][block][sum][lane], row_size apart. Normalised sums are where the values are.
  __attribute__((noinline)) void forward_units(const ForwardStep<T>& step, Range r, Index j0,
                                               Index width, const T* sums, Index row_size) const {
    for (Index j = j0; j < j0 + width; ++j) {
      const Index used = used_lanes<T>(j, d.H);
      BPTT_NO_UNROLL for (Index row = r.begin; row < r.end; ++row) {
        T* kept = step.saved ? kept_values<Cell>(step, j, row) : nullptr;
        const T* a_memory =
            normal<Cell> ? kept : sums + (row - r.begin) * row_size + (j - j0) * S * L;
        Vec<T> a[S], p[Cell::params + 1], s0[Cell::states], s[Cell::states], k[Cell::saved + 1];
        BPTT_UNROLL for (int i = 0; i < S; ++i) a[i] = load(a_memory + i * L);
        if constexpr (Cell::inner)
          s0[0] = Cell::Inner::takes_h ? load(step.operand + row * d.P + j * L, used) : Native<T>{};
        else if (Cell::passes_h)
          s0[0] = load(step.h + row * d.P + j * L, used);
        BPTT_UNROLL for (int q = 1; q < Cell::states; ++q) s0[q] = load(step.before[q].at(j, row));
        BPTT_UNROLL for (int i = 0; i < Cell::params; ++i) p[i] =
            load(weights.params + (j * Cell::params + i) * L);
        Cell::forward(call.options, p, a, s0, s, k);
        if constexpr (Cell::general) finish_states(step.t, row, j, s0, s);
        if constexpr (!normal_state<Cell>) finish_h(step, row, j, used, s0[0], s[0]);
        if constexpr (truncated<Cell>) {
          T* operand = masked.h + (rows.first[step.t] + row) * d.U + j * L;
          if (!again) store(operand, s[0].v, used);
          for (int q = 2; q < Cell::states && !again; ++q)
            store(operand + (q - 1) * d.H, s[q].v, used);
        }
        BPTT_UNROLL for (int q = 1; q < Cell::states; ++q) store(step.after[q].at(j, row), s[q].v);
        if (!kept) continue;
        BPTT_UNROLL for (int i = normal<Cell> ? S : 0; i < Cell::saved; ++i)
            store(kept + i * L, k[i].v);
      }
    }
  }

  // The lines that forward_units will touch: asked for before the products, they are there after
  // them.
  BPTT_INLINE void prefetch_units(const ForwardStep<T>& step, Index row, Index n, Index j,
                                  Index width) const {
    const std::size_t vector = BPTT_VECTOR_BYTES, count = static_cast<std::size_t>(n);
    for (Index r = row; r < row + n && step.y; ++r)
      prefetch_for_writing(step.y + r * d.P + j * L, static_cast<std::size_t>(width) * vector);
    for (Index b = j; b < j + width; ++b) {
      if (Cell::saved && step.saved)
        prefetch_for_writing(step.saved + (b * step.saved_rows + row) * Cell::saved * L,
                             count * Cell::saved * vector);
      for (int q = 1; q < Cell::states; ++q) {
        prefetch(step.before[q].at(b, row), count * vector);
        prefetch_for_writing(step.after[q].at(b, row), count * vector);
      }
    }
  }

  void forward_panel(const ForwardStep<T>& step, Index j, Index width) const {
    products.each_tile(
        step, j, width,
        [&](Range r) {
          if (step.saved) prefetch_units(step, r.begin, r.end - r.begin, j, width);
        },
        [&](Range r, const T* sums) { take_sums(step, r, j, width, sums, width * S * L); });
  }
  BPTT_INLINE void take_sums(const ForwardStep<T>& step, Range r, Index j, Index width,
                             const T* sums, Index row_size) const {
    if constexpr (normal<Cell>)
      keep_sums<T, Cell>(step, r, j, width, sums, row_size);
    else
      forward_units(step, r, j, width, sums, row_size);
  }
  // Once the sums of rows r are all there.
  void normal_rows(const ForwardStep<T>& step, Range r) const {
    normalise_sums<T, Cell>(step, r, d.H);
    forward_units(step, r, 0, blocks, nullptr, 0);
    if constexpr (normal_state<Cell>) normalise_states(*this, step, r);
  }
  void normal_step(const ForwardStep<T> (&parts)[2], Range mine) {
    if (!team.sequences && !patience.wait()) return;
    const Range all = team.sequences ? mine : share_of(parts[0].count, 1, team);
    for (const ForwardStep<T>& part : parts)
      each_rows(all, part.rows, [&](Range r) { normal_rows(part, r); });
  }

  // What is left of a step where the equations above gave the operand of another product: h, from
  // that product and the saved values; sums is that of the first of rows r, [row][block][lane].
  BPTT_INLINE void inner_units(const ForwardStep<T>& step, Range r, Index j0, Index width,
                               const T* sums) const {
    using Inner = typename Cell::Inner;
    for (Index j = j0; j < j0 + width; ++j) {
      const Index used = used_lanes<T>(j, d.P);
      BPTT_NO_UNROLL for (Index row = r.begin; row < r.end; ++row) {
        T* kept = Inner::saved ? kept_values<Cell>(step, j, row) : nullptr;
        Vec<T> k[Inner::saved + 1], h;
        const Vec<T> a = load(sums + ((row - r.begin) * width + j - j0) * L),
                     h_before = load(step.h + row * d.P + j * L, used);
        BPTT_UNROLL for (int i = 0; i < Inner::saved; ++i) k[i] = load(kept + i * L);
        Inner::forward(call.options, a, h_before, h, k);
        finish_h(step.t, row, j, h_before, h);
        if (step.y) store(step.y + row * d.P + j * L, h.v, used);
        if (Inner::saved) store(kept + (Inner::saved - 1) * L, k[Inner::saved - 1].v);
      }
    }
  }
  void inner_step(const ForwardStep<T> (&parts)[2]) {
    if (again && !Cell::Inner::saved) return;
    if (!team.sequences && !patience.wait()) return;
    for (Index j = outputs.begin; j < outputs.end; j += unit_blocks<typename Cell::Inner>) {
      const Index width = smaller(unit_blocks<typename Cell::Inner>, outputs.end - j);
      if (patience.ends(parts[1].rows.end - parts[0].rows.begin, d.H, width * L)) return;
      for (const ForwardStep<T>& part : parts)
        products.each_inner_tile(
            part, j, width, [&](Range r, const T* sums) { inner_units(part, r, j, width, sums); });
    }
  }

  // Step t; `sums` holds those of its rows if they were projected, with h as well if y is known.
  void forward_step(Index t, const T* sums, bool with_h) {
    const StepRows step_rows(rows, d.T, t);
    const Range mine = sequences(step_rows.count);
    ForwardStep<T> parts[2]{};  // continuing, starting
    for (int i = 0; i < 2; ++i) {
      ForwardStep<T>& p = parts[i];
      p.x = call.x + rows.first[t] * d.I, p.y = again ? nullptr : call.y + rows.first[t] * d.P;
      p.saved = states.kept ? values.saved +
                                  (rows.first[t] - states.segment_row) * states.padded * Cell::saved
                            : nullptr;
      const Index before_segment = rows.first[t] - states.segment_row;
      if (Cell::inner) p.inner = states.kept ? values.inner + before_segment * d.H : scratch.inner;
      if (needs_saved<Cell>() && !states.kept) p.saved = scratch.saved;
      if (normal<Cell>)
        p.moments =
            states.kept ? values.moments + before_segment * moments_of_row : scratch.moments;
      p.t = t, p.count = step_rows.count, p.sums = sums;
      p.saved_rows = states.kept ? p.count : d.B;
      const Index before = rows.first[step_rows.continuing ? step_rows.previous : t];
      p.h = i ? h0 : call.y + before * d.P;
      p.operand = !masked.h ? p.h : i ? masked.h0 : masked.h + before * d.U;
      for (int q = 1; q < Cell::states; ++q) {
        p.after[q] = states.after(q, t);
        p.before[q] =
            i || !step_rows.continuing ? states.before_first(q) : states.before(q, t, step_rows);
      }
    }
    const Index middle = larger(mine.begin, smaller(mine.end, step_rows.continuing));
    parts[0].rows = {mine.begin, middle}, parts[1].rows = {middle, mine.end};
    for (const ForwardStep<T>& part : parts)
      if (!with_h) products.prepare(part);
    for (Index j = units.begin; j < units.end;) {
      const Index width = products.panel_width(j, units.end, mine.end - mine.begin);
      if (patience.ends(mine.end - mine.begin, d.I + d.P, width * G * L)) return;
      for (const ForwardStep<T>& part : parts)
        if (part.rows.begin == part.rows.end)
          continue;
        else if (with_h)
          take_sums(part, part.rows, j, width,
                    sums + (part.rows.begin * blocks * S + j * tile_sums<Cell>)*L, blocks * S * L);
        else
          forward_panel(part, j, width);
      j += width;
    }
    if constexpr (normal<Cell>) normal_step(parts, mine);
    if constexpr (Cell::inner) inner_step(parts);
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
    const T *x = call.x + span.row * d.I, *h = nullptr;
    if (again)
      h = (masked.h ? masked.h : call.y) +
          rows.first[rows.reverse ? span.begin + 1 : span.begin - 1] * d.U;
    products.prepare_projection(x, h, span.rows);
    for (Index j = units.begin; j < units.end; j += unit_blocks<Cell>) {
      const Index width = smaller(unit_blocks<Cell>, units.end - j);
      if (patience.ends(span.rows, d.I + (again ? d.P : 0), width * G * L)) return;
      products.project(x, h, span.rows, j, width, scratch.sums);
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
    for (Index i = mine.begin * d.P; i < mine.end * d.P; ++i)
      call.state_n[0][i] = h0[i] = call.state0[0] ? call.state0[0][i] : T(0);
    if (truncated<Cell>) copy_operand(mine);
    for (Index i = mine.begin * d.P; i < mine.end * d.P && masked.h0 && !truncated<Cell>; ++i)
      masked.h0[i] = h0[i] * call.extras.h_mask[i];
    for (int q = 1; q < Cell::states; ++q) {
      to_blocks(call.state0[q], d.H, mine, states.before_first(q));
      from_blocks(states.before_first(q), d.H, mine, call.state_n[q]);
    }
  }

  void copy_operand(Range mine) {
    for (Index b = mine.begin; b < mine.end; ++b)
      for (Index i = 0; i < d.U; ++i) {
        const T* state = call.state0[i < d.H ? 0 : i / d.H + 1];
        masked.h0[b * d.U + i] = state ? state[b * d.H + i % d.H] : T(0);
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
      __builtin_memcpy(call.state_n[0] + b * d.P, call.y + (rows.first[last] + b) * d.P,
                       static_cast<std::size_t>(d.P) * sizeof(T));
      for (int q = 1; q < Cell::states; ++q)
        from_blocks(states.after(q, last), d.H, {b, b + 1}, call.state_n[q]);
    }
  }

  bool run() {
    copy_initial_state();
    if (call.tape) {
      if (team.rank == 0) pack_params<T, Cell>(call, tape.params);
      P::pack_columns(call, tape, share_of(blocks_of<T>(d.I), column_blocks, team),
                      share_of(blocks_of<T>(d.P), column_blocks, team), patience);
      if constexpr (Cell::inner) {
        using Inner = typename Cell::Inner;
        pack_by_column<T, HSide<Inner>>(inner_weights<Cell>(call), d.P, d.H,
                                        share_of(blocks, column_blocks, team), tape.w_inner,
                                        patience);
      }
    }
    if (!patience.wait()) return false;
    for (Index k = 0; k < rows.segments && !patience.stopped; ++k) {
      const Index s = in_order(rows, rows.segments, k);
      enter_segment(s);
      if (rows.segments > 1 && !patience.wait()) break;  // all have what the last one left
      run_steps(segment_span(rows, s));
      if (patience.stopped) break;  // while others may still write
      collect_final_states(segment_span(rows, s));
      patience.wait();
    }
    return !patience.stopped;
  }
};
