// SPDX-License-Identifier: MIT
// The forward loop: over time, then panels of hidden units, then blocks of rows. A tile computes
// the products with x and h for all sums of its units, and the cell's equations follow while the
// tile is in the cache.
#pragma once
#include "kernels/product/microkernel.inl"
#include "kernels/step/zoneout_skip.inl"
#include "kernels/time/forward_workspace.inl"
#include "kernels/time/layer_norm.inl"
#include "kernels/time/row_steps.inl"

BPTT_KERNELS_BEGIN

template <class Backend>
struct Forward {
  using T = typename Backend::T;
  using Cell = typename Backend::Cell;
  static constexpr int G = Cell::gates, S = Cell::sums;
  static constexpr Index L = lanes<T>;
  const ForwardCall<T>& call;
  const Dims& d;
  const Rows& rows;
  const Team& team;
  const typename Backend::Weights weights;
  const Tape<Backend> tape;
  const ForwardWorkspace<Backend> scratch;
  const typename Backend::Forward products;
  const SegmentTape<T, Cell> values;  // of the current segment
  const bool recompute;               // y is known, and only the saved values are wanted
  T* const h0;                        // [B, P]
  const RecurrentOperand<T, Cell> operand;
  const Skips<T> skips;
  const Index blocks;
  const Range units, outputs;  // this rank's blocks of hidden units, and of h
  States<T, Cell> states;
  StopPoll poll;
  ForwardStep<T> parts[2];  // of the current step: rows that continue, rows that start

  Forward(const ForwardCall<T>& c, const Team& t, const SegmentTape<T, Cell>& segment_values,
          bool y_is_known)
      : call(c),
        d(c.dims),
        rows(c.rows),
        team(t),
        weights(c.weights, c.dims),
        tape({c.tape}, c.dims, c.rows),
        scratch(c.scratch, c.dims, c.rows.total),
        products(c, weights, scratch.products),
        values(segment_values),
        recompute(y_is_known),
        h0(c.tape ? tape.h0 : scratch.h0),
        operand(c.tape ? tape.operand : scratch.operand),
        skips{c.dims, c.rows, c.y, h0, c.extras.skip},
        blocks(blocks_of<T>(d.H)),
        units(units_of<T>(team, d.H)),
        outputs(units_of<T>(team, d.P)),
        states(rows, d, c.tape != nullptr),
        poll{t} {
    for (int q = 1; q < Cell::states; ++q) {
      states.initial[q] = c.tape ? tape.state0[q] : scratch.states[q];
      states.starts[q] = tape.starts[q];
      states.steps[q] = c.tape ? values.states[q] : scratch.states[q];
    }
  }

  // --- one step

  // After the equations: zoneout of the states beside h.
  BPTT_INLINE void finish_states(Index t, Index row, Index j, const Vec<T>* s0, Vec<T>* s) const {
    const Index used = used_lanes<T>(j, d.H), at = (rows.first[t] + row) * d.H + j * L;
    BPTT_UNROLL for (int q = 1; q < zoned_states<Cell>; ++q) {
      s[q] = mixed(zoneout_beside<Cell>(call.extras, q, at, used, s0), s0[q], s[q]);
    }
  }
  // Zoneout of h, addition of an earlier h, and the operand of the next product.
  BPTT_INLINE void finish_h(Index t, Index row, Index j, Vec<T> h0, Vec<T>& h) const {
    const Index used = used_lanes<T>(j, d.P), at = (rows.first[t] + row) * d.P + j * L;
    const Vec<T> z = zoneout(call.extras, 0, at, used);
    h = mixed(z, h0, h);
    if (const T* earlier = skips.of(t, row)) h = h + Vec<T>(load(earlier + j * L, used));
    if (!recompute) operand.take_h(call, rows.first[t] + row, row, j, used, h);
  }

  // Stores the h of a step at y, which may be null, or the operand of a second product.
  BPTT_INLINE void finish_h(const ForwardStep<T>& step, Index row, Index j, Index used, Vec<T> h0,
                            Vec<T>& h, T* y) const {
    if constexpr (Cell::general && !Cell::second_product) finish_h(step.t, row, j, h0, h);
    if constexpr (Cell::second_product)
      store(step.second_operand + row * d.H + j * L, h.v, used);
    else if (y)
      store(y, h.v, used);
  }

  // The cell's equations for rows r and `width` blocks from block j0 on; sums is
  // [row][block][sum][lane] from the first of these rows on, rows row_size apart. Normalised sums
  // are read from the saved values instead.
  BPTT_SHARED void forward_units(const ForwardStep<T>& step, Range r, Index j0, Index width,
                                 const T* sums, Index row_size) const {
    BPTT_NO_UNROLL for (Index row = r.begin; row < r.end; ++row, sums += row_size) {
      UnitPlaces<T, Cell> at(step, d, weights.params, row, j0, sums);
      BPTT_NO_UNROLL for (Index j = j0; j < j0 + width; ++j, at.next(step)) {
        const Index used = used_lanes<T>(j, d.H);
        Vec<T> a[S], p[Cell::params + 1], s0[Cell::states], s[Cell::states], k[Cell::saved + 1];
        BPTT_UNROLL for (int i = 0; i < S; ++i) a[i] =
            load((Cell::layer_norm ? at.saved : at.sums) + i * L);
        if constexpr (Cell::second_product)
          s0[0] = Cell::SecondProduct::takes_h ? load(step.operand + row * d.P + j * L, used)
                                               : Native<T>{};
        else if (Cell::passes_h)
          s0[0] = load(at.h, used);
        BPTT_UNROLL for (int q = 1; q < Cell::states; ++q) s0[q] = load(at.before[q]);
        BPTT_UNROLL for (int i = 0; i < Cell::params; ++i) p[i] = load(at.params + i * L);
        Cell::forward(call.options, p, a, s0, s, k);
        if constexpr (Cell::general) finish_states(step.t, row, j, s0, s);
        if constexpr (!Cell::layer_norm_c) finish_h(step, row, j, used, s0[0], s[0], at.y);
        if (!recompute) operand.take_states(d, rows.first[step.t] + row, j, used, s);
        BPTT_UNROLL for (int q = 1; q < Cell::states; ++q) store(at.after[q], s[q].v);
        if (!at.saved) continue;
        BPTT_UNROLL for (int i = Cell::layer_norm ? S : 0; i < Cell::saved; ++i)
            store(at.saved + i * L, k[i].v);
      }
    }
  }

  // Prefetch the memory of forward_units while the products are computed.
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

  void forward_group(const ForwardStep<T>& step, Range group) const {
    products.for_each_tile(
        step, group,
        [&](Index j, Index width, Range r) BPTT_INLINED {
          if (step.saved && r.end - r.begin > 1)
            prefetch_units(step, r.begin, r.end - r.begin, j, width);
        },
        [&](Index j, Index width, Range r, const T* sums, Index row_size) BPTT_INLINED {
          if constexpr (Cell::layer_norm)
            keep_sums<T, Cell>(step, r, j, width, sums, row_size);
          else
            forward_units(step, r, j, width, sums, row_size);
        });
  }
  // Finishes rows r once all their sums are computed.
  void layer_norm_rows(const ForwardStep<T>& step, Range r) const {
    normalise_sums<T, Cell>(step, r, d.H);
    forward_units(step, r, 0, blocks, nullptr, 0);
    if constexpr (Cell::layer_norm_c) normalise_states(*this, step, r);
  }
  void layer_norm_step() {
    if (!team.sequences && !poll.wait()) return;
    const Range all = team.sequences ? Range{parts[0].rows.begin, parts[1].rows.end}
                                     : share_of(parts[0].count, 1, team);
    for (const ForwardStep<T>& part : parts)
      for_each_rows(all, part.rows, [&](Range r) { layer_norm_rows(part, r); });
  }

  // The rest of a step with a second product: h from its results, sums [row][block][lane] from the
  // first of rows r on, and from the saved values.
  BPTT_INLINE void second_units(const ForwardStep<T>& step, Range r, Index j0, Index width,
                                const T* sums) const {
    using Second = typename Cell::SecondProduct;
    for (Index j = j0; j < j0 + width; ++j) {
      const Index used = used_lanes<T>(j, d.P);
      BPTT_NO_UNROLL for (Index row = r.begin; row < r.end; ++row) {
        T* kept = Second::saved ? kept_values<Cell>(step, j, row) : nullptr;
        Vec<T> k[Second::saved + 1], h;
        const Vec<T> a = load(sums + ((row - r.begin) * width + j - j0) * L),
                     h_before = load(step.h + row * d.P + j * L, used);
        BPTT_UNROLL for (int i = 0; i < Second::saved; ++i) k[i] = load(kept + i * L);
        Second::forward(call.options, a, h_before, h, k);
        finish_h(step.t, row, j, h_before, h);
        if (step.y) store(step.y + row * d.P + j * L, h.v, used);
        if (Second::saved) store(kept + (Second::saved - 1) * L, k[Second::saved - 1].v);
      }
    }
  }
  void second_step() {
    if (recompute && !Cell::SecondProduct::saved) return;
    if (!team.sequences && !poll.wait()) return;
    for (Index j = outputs.begin; j < outputs.end; j += unit_blocks<typename Cell::SecondProduct>) {
      const Index width = smaller(unit_blocks<typename Cell::SecondProduct>, outputs.end - j);
      if (poll.stops(parts[1].rows.end - parts[0].rows.begin, d.H, width * L)) return;
      for (const ForwardStep<T>& part : parts)
        products.for_each_second_tile(
            part, j, width, [&](Range r, const T* sums) { second_units(part, r, j, width, sums); });
    }
  }

  // Lays out step t, the rows that continue and the rows that start; `sums` holds its projected
  // sums, or null.
  void lay_out(Index t, T* sums, ForwardStep<T> (&parts)[2]) const {
    const StepRows step_rows(rows, d.T, t);
    const Range mine = sequences_of(team, step_rows.count);
    const Index before_segment = rows.first[t] - states.segment_row,
                before = rows.first[step_rows.continuing ? step_rows.previous : t];
    for (int i = 0; i < 2; ++i) {
      ForwardStep<T>& p = parts[i];
      p = {};
      p.x = call.x + rows.first[t] * d.I, p.y = recompute ? nullptr : call.y + rows.first[t] * d.P;
      p.saved = states.kept ? values.saved + before_segment * states.padded * Cell::saved : nullptr;
      if (Cell::second_product)
        p.second_operand =
            states.kept ? values.second_operand + before_segment * d.H : scratch.second_operand;
      if (needs_saved<Cell>() && !states.kept) p.saved = scratch.saved;
      if (Cell::layer_norm)
        p.moments =
            states.kept ? values.moments + before_segment * moments_of_row : scratch.moments;
      p.t = t, p.count = step_rows.count, p.sums = sums, p.whole = recompute && sums;
      p.saved_rows = states.kept ? p.count : d.B;
      p.h = i ? h0 : call.y + before * d.P;
      p.operand = !operand.after ? p.h : i ? operand.initial : operand.after + before * d.U;
      for (int q = 1; q < Cell::states; ++q) {
        p.after[q] = states.after(q, t);
        p.before[q] =
            i || !step_rows.continuing ? states.before_first(q) : states.before(q, t, step_rows);
      }
    }
    const Index middle = larger(mine.begin, smaller(mine.end, step_rows.continuing));
    parts[0].rows = {mine.begin, middle}, parts[1].rows = {middle, mine.end};
  }
  // From a step to the n-th one after it in the order of processing.
  StepStride stride(const ForwardStep<T>& step, Index steps = 1) const {
    const Index t = rows.reverse ? -steps : steps, n = t * step.count, kept = states.kept ? n : 0;
    const auto where = [](const T* array, Index elements) { return array ? elements : 0; };
    return {t,
            n * d.I,
            where(step.y, n * d.P),
            n * d.P,
            n * d.U,
            kept * states.padded,
            kept * states.padded * Cell::saved,
            where(step.second_operand, kept * d.H),
            where(step.moments, kept * moments_of_row),
            where(step.sums, n * blocks * S * L)};
  }
  // How many steps from step t on, at most n, are one stride apart? All of their rows continue.
  Index alike(Index t, Index n) const {
    const Index next = rows.reverse ? -1 : 1, count = rows.count[t];
    if (t == states.segment_first || rows.count[t - next] != count) return 1;
    if (rows.count[t + (n - 1) * next] == count) return n;  // counts never increase
    Index steps = 1;
    while (rows.count[t + steps * next] == count) ++steps;
    return steps;
  }

  // The step that is laid out.
  void forward_step() {
    const Index n = parts[1].rows.end - parts[0].rows.begin;
    if (!parts[0].whole)
      for (const ForwardStep<T>& part : parts) products.prepare(part);
    for (Index j = units.begin, width; j < units.end; j += width) {
      width = products.group_width(j, units.end, n);
      if (poll.stops(n, d.I + d.P, width * G * L)) return;
      BPTT_NO_UNROLL for (const ForwardStep<T>& part : parts) {
        if (part.rows.begin < part.rows.end) forward_group(part, {j, j + width});
      }
    }
    if constexpr (Cell::layer_norm) layer_norm_step();
    if constexpr (Cell::second_product) second_step();
    if (!team.sequences && !recompute) poll.wait();
  }
  // Steps begin .. end - 1 of a span in the order of processing; `sums` holds the projected sums of
  // the rows from `first` on, or null.
  void take_steps(const Span& span, Index begin, Index end, T* sums, Index first) {
    for (Index n = begin, steps; n < end && !poll.stopped; n += steps) {
      const Index t = step_of(span, n);
      steps = alike(t, end - n);
      lay_out(t, sums ? sums + (rows.first[t] - first) * blocks * S * L : nullptr, parts);
      const StepStride by = stride(parts[0]);
      if constexpr (Backend::takes_rows)
        if (steps > 1 && products.takes_row(parts[0], team)) {
          poll.for_steps(steps, StopPoll::operations(1, d.I + d.P, d.H * G), [&](Index some) {
            row_steps<T, Cell>(parts[0], by, some, call, weights, scratch.sums);
            parts[0].move(by, Cell::states, some);
          });
          continue;
        }
      for (Index i = 0; i < steps && !poll.stopped; ++i) {
        if (i) parts[0].move(by, Cell::states);
        forward_step();
      }
    }
  }

  // --- many narrow steps

  // The number of steps to project at once, from the n-th of a span in the order of processing; 0:
  // none.
  Index projectable(const Span& span, Index n) const {
    Index total = 0, steps = 0;
    for (; span.begin + n + steps < span.end; ++steps) {
      const Index t = step_of(span, n + steps);
      const StepRows step(rows, d.T, t);
      total += step.count;
      if (step.count >= narrow_rows || total > projected_rows || team.sequences) break;
      if (recompute && !step.same_before(rows)) break;
    }
    return d.T > 1 ? steps : 0;
  }
  Index step_of(const Span& span, Index n) const {
    return rows.reverse ? span.end - 1 - n : span.begin + n;
  }

  // Computes the sums of the rows of `span`, from x and, where y is known, from h.
  void project(const Span& span) {
    const T *x = call.x + span.row * d.I, *h = nullptr;
    if (recompute)
      h = (operand.after ? operand.after : call.y) +
          rows.first[rows.reverse ? span.begin + 1 : span.begin - 1] * d.U;
    products.prepare_projection(x, h, span.rows);
    for (Index j = units.begin; j < units.end; j += unit_blocks<Cell>) {
      const Index width = smaller(unit_blocks<Cell>, units.end - j);
      if (poll.stops(span.rows, d.I + (recompute ? d.P : 0), width * G * L)) return;
      products.project(x, h, span.rows, j, width, scratch.sums);
    }
  }

  void run_steps(const Span& span) {
    const Index all = span.end - span.begin;
    const bool projects = recompute || products.projects();
    for (Index n = 0, end; n < all && !poll.stopped; n = end) {
      const Index steps = projects ? projectable(span, n) : 0;
      if (!steps) {
        for (end = projects ? n + 1 : all; end < all && !projectable(span, end);) ++end;
        take_steps(span, n, end, nullptr, 0);
        continue;
      }
      end = n + steps;
      const Index one = step_of(span, n), other = step_of(span, end - 1);
      const Span together(rows, smaller(one, other), larger(one, other) + 1);
      project(together);
      take_steps(span, n, end, scratch.sums, together.row);
    }
  }

  // --- the whole call

  void copy_initial_state() {
    const Range mine = team.sequences ? sequences_of(team, d.B) : share_of(d.B, 1, team);
    for (Index i = mine.begin * d.P; i < mine.end * d.P; ++i)
      call.state_n[0][i] = h0[i] = call.state0[0] ? call.state0[0][i] : T(0);
    operand.start(call, h0, mine);
    for (int q = 1; q < Cell::states; ++q) {
      to_blocks(call.state0[q], d.H, mine, states.before_first(q));
      from_blocks(states.before_first(q), d.H, mine, call.state_n[q]);
    }
  }

  // Copies the states after the last step of the previous segment to the start of segment s.
  void enter_segment(Index s) {
    const Span span = segment_span(rows, s);
    const Index last = rows.reverse ? span.end : span.begin - 1;
    if (last >= 0 && last < d.T && rows.segments > 1)
      for (int q = 1; q < Cell::states; ++q) {
        const StepState<T> from = states.after(q, last);
        const StepState<T> to{states.starts[q] + s * d.B * states.padded, d.B};
        const Range mine = sequences_of(team, rows.count[last]);
        for (Index j = units.begin; j < units.end; ++j)
          for (Index b = mine.begin; b < mine.end; ++b) store(to.at(j, b), load(from.at(j, b)));
      }
    states.enter(s);
  }

  // Collects the states after the last step of the sequences that end in `span`; no rank changes
  // values meanwhile.
  void collect_final_states(const Span& span) const {
    const Range mine = team.sequences ? sequences_of(team, d.B) : share_of(d.B, 1, team);
    Index length = d.T;  // of sequence b: lengths never increase
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
      Backend::pack_columns(call, tape, share_of(blocks_of<T>(d.I), column_blocks, team),
                            share_of(blocks_of<T>(d.P), column_blocks, team), poll);
      if constexpr (Cell::second_product) {
        using Second = typename Cell::SecondProduct;
        pack_by_column<T, HSide<Second>::count>(HSide<Second>::gates, second_weights<Cell>(call),
                                                d.P, d.H, share_of(blocks, column_blocks, team),
                                                tape.w_second, poll);
      }
    }
    if (!poll.wait()) return false;
    for (Index k = 0; k < rows.segments && !poll.stopped; ++k) {
      const Index s = in_order(rows, rows.segments, k);
      enter_segment(s);
      if (rows.segments > 1 && !poll.wait()) break;  // all ranks see the states of the previous one
      run_steps(segment_span(rows, s));
      if (poll.stopped) break;  // while other ranks may still write
      collect_final_states(segment_span(rows, s));
      poll.wait();
    }
    return !poll.stopped;
  }
};

BPTT_KERNELS_END
