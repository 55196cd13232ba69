// SPDX-License-Identifier: MIT
// The backward loop, in chunks of steps against the order of processing. Per step: the cell's
// equations give the gradients of the sums, kept as [block][row in chunk][sum][lane]; their product
// with w_hh is the gradient passed back. Per chunk: the same array, without a copy, is the right
// operand of the weight gradients and the left operand of dx.
#pragma once
#include "kernels/step/step_clip.inl"
#include "kernels/time/layer_norm_backward.inl"
#include "kernels/time/row_steps_backward.inl"
#include "kernels/time/second_product.inl"

BPTT_KERNELS_BEGIN

template <class Backend>
struct Backward {
  using T = typename Backend::T;
  using Cell = typename Backend::Cell;
  using Own = EquationsOf<Cell>;
  static constexpr int S = GradientsOf<Cell>::products, D = GradientsOf<Cell>::all,
                       own_sums = equations_give<Cell>();
  static constexpr bool takes_h = second_takes_h<Cell>(),
                        reads_h = Cell::second_product ? takes_h : Cell::passes_h;
  static constexpr Index L = lanes<T>;
  const BackwardCall<T>& call;
  const Dims& d;
  const Rows& rows;
  const Team& team;
  const Tape<Backend> tape;
  const BackwardWorkspace<Backend> scratch;
  const Index blocks, padded;
  const Range units, outputs;  // this rank's blocks of hidden units, and of h
  const bool own_groups;       // each rank takes a group of sequences, and waits for no other
  mutable StopPoll poll;
  // Gradients of the current chunk. A rank with its own group has its own copy, since it may be in
  // another chunk.
  T *const dsums, *const dvalues;
  const Tracer<Backend> tracer;
  const typename Backend::Backward products;
  const SecondProductBackward<Backend> second;
  const LayerNormBackward<Backend> layer_norm;

  Backward(const BackwardCall<T>& c, const Team& t)
      : call(c),
        d(c.dims),
        rows(c.rows),
        team(t),
        tape({const_cast<void*>(c.tape)}, c.dims, c.rows),
        scratch({c.scratch}, c.dims, c.rows, c.extras.skip, c.wanted),
        blocks(blocks_of<T>(c.dims.H)),
        padded(blocks * L),
        units(units_of<T>(team, d.H)),
        outputs(units_of<T>(team, d.P)),
        own_groups(t.sequences && t.size == c.rows.groups),
        poll{t},
        dsums(scratch.dsums + (own_groups ? t.rank : 0) * padded * S * c.rows.chunk_rows),
        dvalues(scratch.dvalues + (own_groups ? t.rank : 0) * padded * D * c.rows.chunk_rows),
        tracer{c, c.rows, dvalues, of_group(scratch.traced_h, blocks_of<T>(d.P)),
               of_group(scratch.traced_c, blocks)},
        products(d, rows, dsums, scratch.products, own_groups ? t.rank : 0, poll),
        second(c, tape, scratch, units, outputs, dsums, own_groups ? t.rank : 0, tracer, poll),
        layer_norm(c, tape, scratch, dsums, dvalues, tracer) {}

  // This rank's part of an array with [block][row in chunk][lane] for each group.
  T* of_group(T* base, Index n_blocks) const {
    return base + (own_groups && base ? team.rank * n_blocks * L * rows.chunk_rows : 0);
  }

  // --- one step: the cell's equations

  // Before the equations: zoneout of the states beside h.
  BPTT_INLINE void start_states(Index t, Index row, Index j, const Vec<T>* s0, Vec<T>* ds,
                                Vec<T>* stays) const {
    const Index used = used_lanes<T>(j, d.H), at = (rows.first[t] + row) * d.H + j * L;
    BPTT_UNROLL for (int q = 1; q < zoned_states<Cell>; ++q) {
      const Vec<T> z = zoneout_beside<Cell>(call.extras, q, at, used, s0);
      stays[q] = mixed(z, ds[q], Vec<T>(0));
      ds[q] = mixed(Vec<T>(1) - z, ds[q], Vec<T>(0));
    }
  }

  // The gradient of h, or of the value that h is made of after the equations.
  BPTT_INLINE Vec<T> gradient_of_output(Index t, Index row, Index j) const {
    if constexpr (later_h<Cell>) return load(scratch.doperand + (j * d.B + row) * L);
    return gradient_of_h(call, scratch.dstates[0] + (j * d.B + row) * L, t, row, j);
  }
  // Adds the gradient that the operand of a second product passes to h.
  BPTT_INLINE void add_to_h(Index row, Index j, Index used, Vec<T> dh0) const {
    T* dh = scratch.dstates[0] + (j * d.B + row) * L;
    if (d.separate_operand) dh0 = dh0 * Vec<T>(load(call.extras.h_mask + row * d.P + j * L, used));
    store(dh, load(dh) + dh0.v);
  }

  // The equations for rows `r` of step t in block j, whose previous state is in the same array.
  // With a second product, h is the operand of w_hh, and `wanted` may leave out some results.
  void step_units(Index t, Index j, Range r, const T* h, const StepState<T> (&before)[max_states],
                  const Forward<Backend>& forward, T* out, Results wanted) const {
    const Index used = used_lanes<T>(j, d.H), first = rows.first[t], column = j * L;
    const bool mixes_c = Cell::states > 1 && Cell::general && tracer.mixes_c();
    const T* saved =
        forward.values.saved +
        ((first - forward.states.segment_row) * blocks + j * rows.count[t]) * Cell::saved * L;
    T *const traced_h = tracer.h_of(first, j), *const traced_c = tracer.c_of(first, j);
    BPTT_NO_UNROLL for (Index row = r.begin; row < r.end; ++row) {
      Vec<T> p[Cell::params + 1], ds[Cell::states], k[Cell::saved + 1], s0[Cell::states],
          s[Cell::states], da[D], ds0[Cell::states], stays[Cell::states];
      ds[0] = gradient_of_output(t, row, j);
      BPTT_UNROLL for (int q = 1; q < Cell::states; ++q) ds[q] =
          load(scratch.dstates[q] + (j * d.B + row) * L);
      BPTT_UNROLL for (int i = 0; i < Cell::params; ++i) p[i] =
          load(tape.params + (j * Cell::params + i) * L);
      if constexpr (Cell::general && !later_h<Cell>)
        start_h(call, scratch.skips, t, row, j, ds[0], stays[0]);
      if constexpr (!later_h<Cell>)
        if (traced_h) store(traced_h + row * L, (Cell::general ? ds[0] + stays[0] : ds[0]).v);
      // The gradient of c includes the path through h, unless zoneout mixed c after h was made.
      if (mixes_c && traced_c) store(traced_c + row * L, ds[Cell::states > 1].v);
      BPTT_UNROLL for (int i = 0; i < Cell::saved; ++i) k[i] =
          load(saved + (row * Cell::saved + i) * L);
      if (reads_h) s0[0] = load(h + row * d.P + column, used);
      if (!Cell::saved) s[0] = load(call.y + (first + row) * d.P + column, used);
      BPTT_UNROLL for (int q = 1; q < Cell::states; ++q) {
        s0[q] = load(before[q].at(j, row));
        s[q] = load(forward.states.after(q, t).at(j, row));
      }
      if constexpr (Cell::general) start_states(t, row, j, s0, ds, stays);
      BPTT_UNROLL for (int i = 0; i < (Cell::layer_norm_c ? own_sums : 0); ++i) da[i] =
          load(out + (row * D + i) * L);
      Cell::backward(call.options, p, ds, k, s0, s, da, ds0);
      if constexpr (Cell::states > 1)
        if (!mixes_c && traced_c) store(traced_c + row * L, ds[1].v);
      if constexpr (Cell::general) {
        BPTT_UNROLL for (int q = later_h<Cell> ? 1 : 0; q < zoned_states<Cell>; ++q) ds0[q] =
            ds0[q] + stays[q];
      }
      if (used < L) {  // keep padding, which an infinite or NaN input may have reached, out of the
                       // products
        for (int i = 0; i < own_sums; ++i) clear_from<T>(da[i].v, used);
      }
      if constexpr (takes_h) {
        if (wanted != Results::sums) add_to_h(row, j, used, ds0[0]);
        if (wanted == Results::passed) continue;
      }
      BPTT_UNROLL for (int i = 0; i < own_sums; ++i) store(out + (row * D + i) * L, da[i].v);
      BPTT_UNROLL for (int q = Cell::passes_h && !later_h<Cell> ? 0 : 1; q < Cell::states; ++q)
          store(scratch.dstates[q] + (j * d.B + row) * L, ds0[q].v);
    }
  }

  void step(Index t, Range mine, const Forward<Backend>& forward, T* out,
            Results wanted = Results::all) const {
    const StepRows step(rows, d.T, t);
    StepState<T> before[max_states]{}, initial[max_states]{};
    const bool masked = Cell::second_product && d.separate_operand;
    const T *ys = masked ? tape.operand.after : call.y,
            *h0 = masked ? tape.operand.initial : tape.h0;
    const T* h = step.continuing ? ys + rows.first[step.previous] * d.P : nullptr;
    for (int q = 1; q < Cell::states; ++q) {
      initial[q] = forward.states.before_first(q);
      if (step.continuing) before[q] = forward.states.before(q, t, step);
    }
    const Index middle = larger(mine.begin, smaller(mine.end, step.continuing));
    const Range some = Cell::layer_norm ? Range{0, blocks} : units;
    for (Index j = some.begin; j < some.end; ++j) {
      T* block = out + j * rows.chunk_rows * D * L;
      step_units(t, j, {mine.begin, middle}, h, before, forward, block, wanted);
      step_units(t, j, {middle, mine.end}, h0, initial, forward, block, wanted);
    }
  }

  // --- products with packed weights: dx, and the gradient passed back to h

  // Adds the gradient through w_hh to the one through the equations. first: row of the step in the
  // chunk.
  void pass_back(Index first, Range r) const {
    products.template for_each_tile<HSide<Cell>>(
        {first + r.begin, first + r.end}, tape.w_hh, d.P, outputs,
        [&](Index row, Index n_rows, Index column, Index width, const T* tile) {
          for (Index b = 0; b < width; ++b)
            for (Index i = 0; i < n_rows; ++i) {
              T* dh = scratch.dstates[0] + ((column / L + b) * d.B + row - first + i) * L;
              Native<T> v = load(tile + (i * width + b) * L);
              if (d.separate_operand)
                v *= load(call.extras.h_mask + (row - first + i) * d.P + column + b * L,
                          used_lanes<T>(column / L + b, d.P));
              store(dh, Cell::passes_h ? load(dh) + v : v);
            }
        });
  }

  // Does step t pass a gradient through w_hh? From the first step it only reaches the initial h.
  bool passes_back(Index t) const {
    const bool first = t == (rows.reverse ? d.T - 1 : 0);
    const bool needed = !first || call.dstate0[0] || call.step_clip.kind != StepClip::none;
    return !Cell::truncated && needed;
  }

  void input_gradient(const Span& chunk) const {
    if (!call.dx) return;
    if (!own_groups) return input_gradient(chunk.row, share_of(chunk.rows, max_rows, team));
    for (Index t = chunk.begin; t < chunk.end; ++t) {
      const Range mine = sequences_of(team, rows.count[t]);
      const Index first = rows.first[t] - chunk.row;
      input_gradient(chunk.row, {first + mine.begin, first + mine.end});
    }
  }

  // The same for rows r of a chunk that begins with row `start`.
  void input_gradient(Index start, Range r) const {
    const Index I = d.I;
    T* const dx = call.dx + start * I;
    products.template for_each_tile<XSide<Cell>>(
        r, tape.w_ih, I, {0, blocks_of<T>(I)},
        [I, dx](Index row, Index n_rows, Index column, Index width, const T* tile) {
          const Index next = I;  // a store might change what the closure holds
          T* to = dx + row * next + column;
          for (Index b = 0, used = next - column; b < width; ++b, to += L, used -= L)
            for (Index i = 0; i < n_rows; ++i)
              store(to + i * next, load(tile + (i * width + b) * L), used);
        });
  }

  // --- weight gradients of a chunk: one for each group of sequences, so that the order of the sums
  // does not depend on whether two ranks take one group each or share the inputs of both

  // The number of steps from step t on, before step `end`, whose rows are neighbours, as are the
  // rows that they continue.
  Index neighbours(Index t, Index end) const {
    const auto continues = [&](Index of) {
      const StepRows step(rows, d.T, of);
      return step.same_before(rows) && step.count == rows.count[t];
    };
    if (!continues(t)) return 1;
    if (continues(end - 1) && rows.count[end - 1] == rows.count[t]) return end - t;
    Index steps = 1;  // counts never increase: only the last steps may differ
    while (t + steps < end && continues(t + steps)) ++steps;
    return steps;
  }

  // Adds to inputs n of the weights (counted over x, h and the second product, without those whose
  // gradients are not wanted) and to blocks `mine` of the biases.
  void group_gradient(const Span& chunk, Index group, Range n, Range mine,
                      const Forward<Backend>& forward) const {
    const Range sequences{rows.group[group], rows.group[group + 1]};
    const auto for_each_step = [&](const auto& f) {
      for (Index t = chunk.begin, steps; t < chunk.end; t += steps) {
        const StepRows step(rows, d.T, t);
        const Range r{smaller(sequences.begin, step.count), smaller(sequences.end, step.count)};
        steps = r.end - r.begin == step.count ? neighbours(t, chunk.end) : 1;
        f(t, step, Range{r.begin, r.begin + steps * (r.end - r.begin)}, rows.first[t] - chunk.row);
      }
    };
    const Wanted& wanted = call.wanted;
    const Index of_x = wanted.w_ih ? d.I : 0, of_h = wanted.w_hh ? d.U : 0;
    if (wanted.w_ih || wanted.sums)
      for_each_runs<T>(
          d.I,
          [&](const auto& add) {
            for_each_step([&](Index t, const StepRows&, Range r, Index row) {
              add(call.x + (rows.first[t] + r.begin) * d.I, row + r.begin, r.end - r.begin);
            });
          },
          [&](const RowRuns<T>& runs) {
            if (wanted.w_ih)
              products.template add_weights<XSide<Cell>>(runs, d.I, part_of(n, 0, of_x),
                                                         scratch.dw_ih(group));
            if (wanted.sums)
              add_rows<T, D>(runs, dvalues, rows.chunk_rows, mine, scratch.db(group));
          });
    const T *after = tape.operand_after(call.y), *before_first = tape.operand_before();
    if (wanted.w_hh)
      for_each_runs<T>(
          d.U,
          [&](const auto& add) {
            for_each_step([&](Index, const StepRows& step, Range r, Index row) {
              const bool all = step.continuing == step.count;
              const Index middle = all ? r.end : larger(r.begin, smaller(r.end, step.continuing));
              if (r.begin < middle)
                add(after + (rows.first[step.previous] + r.begin) * d.U, row + r.begin,
                    middle - r.begin);
              add(before_first + middle * d.U, row + middle, r.end - middle);
            });
          },
          [&](const RowRuns<T>& runs) {
            products.template add_weights<HSide<Cell>>(runs, d.U, part_of(n, of_x, of_h),
                                                       scratch.dw_hh(group));
          });
    if constexpr (Cell::second_product)
      if (wants_second<Cell>(wanted))
        second.add_weights(for_each_step, forward, part_of(n, of_x + of_h, d.H),
                           scratch.dw_second(group));
  }
  // The inputs of all weights whose gradients are wanted.
  Index wanted_inputs() const {
    const Wanted& wanted = call.wanted;
    return (wanted.w_ih ? d.I : 0) + (wanted.w_hh ? d.U : 0) +
           (wants_second<Cell>(wanted) ? d.H : 0);
  }

  // The inputs among n of a product that has `size` of them from `first` on, counted from there.
  static Range part_of(Range n, Index first, Index size) {
    return {smaller(larger(n.begin - first, 0), size), smaller(larger(n.end - first, 0), size)};
  }

  // Adds the gradients of all groups to the first; each rank takes a share.
  void add_groups() const {
    const Range mine = share_of(scratch.weights, 16, team);
    for (Index g = 1; g < rows.groups; ++g)
      for (Index i = mine.begin; i < mine.end; ++i)
        scratch.gradients[i] += scratch.gradients[g * scratch.weights + i];
  }

  // --- the loop

  // Calls f(rows) between two waits for all ranks, as f needs all units of its rows. A rank that
  // has all units of its sequences does not wait.
  template <class F>
  bool on_whole_rows(Range mine, Index count, const F& f) const {
    if (team.sequences) return f(mine), true;
    if (!poll.wait()) return false;
    f(share_of(count, 1, team));
    return poll.wait();
  }

  StepGradients<T> own_gradients(T* values) const { return {values, rows.chunk_rows * D, D}; }

  // Takes the steps of a chunk by row_steps_back(), if that may; returns how many it took.
  Index take_row(const Span& chunk, const Forward<Backend>& forward) const {
    if constexpr (Backend::takes_rows) {
      if (d.B != 1 || team.size > 1 || call.step_clip.kind != StepClip::none || call.steps_left)
        return 0;
      const Index all = chunk.end - chunk.begin, last = rows.reverse ? chunk.end - 1 : chunk.begin;
      const Index alike = all - (last == forward.states.segment_first ? 1 : 0);
      take_row(rows.reverse ? chunk.begin : chunk.end - 1, alike, chunk, forward);
      take_row(last, all - alike, chunk, forward);
      return all;
    }
    return 0;
  }
  // The same for `steps` steps, from step t on, that are one stride apart.
  void take_row(Index t, Index steps, const Span& chunk, const Forward<Backend>& forward) const {
    ForwardStep<T> parts[2];
    forward.lay_out(t, nullptr, parts);
    ForwardStep<T>& step = parts[0].rows.begin < parts[0].rows.end ? parts[0] : parts[1];
    const StepStride by = forward.stride(step, -1);
    const Index row = rows.first[t];
    RowGradients<T> g{dsums + (row - chunk.row) * D * L,
                      rows.chunk_rows * D * L,
                      by.t * D * L,
                      call.y + row * d.P,
                      call.dy ? call.dy + row * d.P : nullptr,
                      tape.w_hh,
                      scratch.dstates,
                      tracer.h_of(row),
                      tracer.c_of(row)};
    poll.for_steps(steps, StopPoll::operations(1, padded * Cell::gates, d.P), [&](Index n) {
      row_steps_back<T, Cell>(call, step, by, n, g);
      step.move(by, Cell::states, n);
      g.move(by, n);
    });
  }

  void run_chunk(const Span& chunk, const Forward<Backend>& forward) const {
    const StepClip& clip = call.step_clip;
    const StepClipper<T> clipper{call, scratch.dstates, scratch.skips, Cell::states, Cell::gates};
    tracer.chunk_row = chunk.row;
    Index n = take_row(chunk, forward);
    if (n && measures_steps()) tracer.measure(Range{0, chunk.rows});
    for (; n < chunk.end - chunk.begin; ++n) {
      const Index t = rows.reverse ? chunk.begin + n : chunk.end - 1 - n;
      const Range mine = sequences_of(team, rows.count[t]);
      const Index first = rows.first[t] - chunk.row;
      T* sums = dvalues + first * D * L;
      const bool clips_sums = clip.kind != StepClip::none && clip.target == StepClip::gates;
      if constexpr (Cell::second_product) {
        second.step(t, first, mine, forward);
        if (!team.sequences && !poll.wait()) return;
        second.pass_back(first, mine);
      }
      if constexpr (Cell::layer_norm) {
        if (!on_whole_rows(mine, rows.count[t], [&](Range all) {
              for_each_rows(all, all, [&](Range r) {
                if constexpr (Cell::layer_norm_c) layer_norm.states(t, first, r, forward);
                step(t, r, forward, sums);
                if (clips_sums) clipper.clip(t, own_gradients(sums), d.H, Own::sums, r);
                layer_norm.sums(t, first, r, forward);
              });
            }))
          return;
      } else {
        step(t, mine, forward, sums, clips_sums ? Results::sums : Results::all);
      }
      if (clips_sums && !Cell::layer_norm && !on_whole_rows(mine, rows.count[t], [&](Range r) {
            clipper.clip(t, own_gradients(sums), d.H, Own::sums, r);
            if constexpr (takes_h) second.take_clipped(first, r);
          }))
        return;
      if constexpr (takes_h)
        if (clips_sums) {  // the gradient passed to h comes from the clipped gradients
          second.pass_back(first, mine);
          step(t, mine, forward, sums, Results::passed);
        }
      if (measures_steps()) tracer.measure(Range{first + mine.begin, first + mine.end});
      products.prepare({first + mine.begin, first + mine.end});
      if (!team.sequences && !poll.wait()) return;
      if (passes_back(t)) pass_back(first, mine);
      if (((clip.kind != StepClip::none && clip.target != StepClip::gates) || call.steps_left) &&
          !on_whole_rows(mine, rows.count[t], [&](Range r) { clipper.bound_states(t, r); }))
        return;
      if (poll.stopped) return;
    }
    if (!own_groups && !poll.wait()) return;
    if (tracer.on()) trace(chunk, forward);
    const Range all = {0, wanted_inputs()}, every_block = {0, blocks};
    for (Index g = 0; g < rows.groups; ++g)
      if (!own_groups)
        group_gradient(chunk, g, share_of(all.end, max_rows, team), share_of(blocks, 1, team),
                       forward);
      else if (g == team.rank)
        group_gradient(chunk, g, all, every_block, forward);
    input_gradient(chunk);
    if (!own_groups) poll.wait();
  }

  // May this rank measure each step at once, while its gradients are in the cache? Not if other
  // ranks have some of the units. It does not pay where a step is small and its chunk stays in the
  // second cache: each step would begin the loops anew.
  bool measures_steps() const {
    return tracer.on() && (team.sequences || (team.size == 1 && !small_chunks()));
  }
  bool small_chunks() const {
    const Index bytes = rows.chunk_rows * (D + Cell::states) * padded * Index(sizeof(T));
    return d.B < 8 && bytes <= d.caches.second / 2;
  }
  // The rest of the trace.
  void trace(const Span& chunk, const Forward<Backend>& forward) const {
    const Range share = share_of(chunk.rows, 1, team);
    if (!measures_steps()) tracer.measure(share);
    for (Index t = chunk.begin; t < chunk.end && call.trace.dh; ++t) {
      const Index first = rows.first[t] - chunk.row, count = rows.count[t];
      const Range mine = own_groups ? sequences_of(team, count) : part_of(share, first, count);
      const T* second_operand = nullptr;
      if constexpr (Cell::second_product)
        second_operand =
            forward.values.second_operand + (rows.first[t] - forward.states.segment_row) * d.H;
      tracer.copy(t, mine, tape.operand_after(call.y), tape.operand_before(), second_operand);
    }
  }

  bool run() const {
    const Range panels = share_of(blocks, unit_blocks<Cell>, team);
    const Range zeros = share_of(rows.groups * scratch.weights, 16, team);
    __builtin_memset(scratch.gradients + zeros.begin, 0,
                     static_cast<std::size_t>(zeros.end - zeros.begin) * sizeof(T));
    const Range mine = team.sequences ? sequences_of(team, d.B) : share_of(d.B, 1, team);
    for (int q = 0; q < Cell::states; ++q)
      to_blocks(call.dstate_n[q], q ? d.H : d.P, mine, StepState<T>{scratch.dstates[q], d.B});
    for (Index i = 0; i < SkipGradients<T>::size(call.extras.skip, scratch.skips.blocks, d.B); ++i)
      if (team.rank == 0) scratch.skips.base[i] = 0;
    if (!poll.wait()) return false;
    const ForwardCall<T> forward_of = forward_call(call, scratch.forward);
    for (Index k = rows.segments; k-- > 0 && !poll.stopped;) {
      const Index s = in_order(rows, rows.segments, k);
      const bool last = k + 1 == rows.segments;
      if (!last && !poll.wait()) break;  // others may still need the values of the previous one
      Forward<Backend> forward(forward_of, team, last ? tape.last : scratch.recomputed, true);
      forward.states.enter(s);
      if (!last) forward.run_steps(segment_span(rows, s));
      poll.stopped |= forward.poll.stopped;
      const Index chunks = rows.segment[s + 1] - rows.segment[s];
      for (Index c = chunks; c-- > 0 && !poll.stopped;)
        run_chunk(chunk_span(rows, rows.segment[s] + in_order(rows, chunks, c)), forward);
    }
    if (!poll.wait()) return false;
    add_groups();
    if (!poll.wait()) return false;
    if (call.wanted.w_ih)
      unpack_by_unit<T, XSide<Cell>::count, unit_blocks<Cell>>(
          XSide<Cell>::gates, scratch.dw_ih(0), d.H, d.I, Backend::padded_inputs(d.I), panels,
          call.dw_ih);
    if (call.wanted.w_hh)
      unpack_by_unit<T, HSide<Cell>::count, unit_blocks<Cell>>(
          HSide<Cell>::gates, scratch.dw_hh(0), d.H, d.U, Backend::padded_inputs(d.U), panels,
          call.dw_hh);
    if constexpr (Cell::second_product) second.unpack(team);
    if (team.rank == 0 && call.wanted.sums) unpack_gradients<T, Cell>(scratch.db(0), call);
    if (call.extras.skip) scratch.skips.add_to(scratch.dstates[0], rows, d.T, mine);
    for (int q = 0; q < Cell::states; ++q)
      from_blocks(StepState<T>{scratch.dstates[q], d.B}, q ? d.H : d.P, mine, call.dstate0[q]);
    return poll.wait();
  }
};

BPTT_KERNELS_END
