// SPDX-License-Identifier: MIT
// The backward loop, in chunks of steps against the order of processing. Per step: the cell's
// equations give the gradients of the sums, kept as [block][row in chunk][sum][lane]; their product
// with w_hh is the gradient passed back. Per chunk: the same array, as it lies, is the right
// operand of the weight gradients and the left one of dx.

template <class P>
struct BackwardScratch {
  using T = typename P::T;
  using Cell = typename P::Cell;
  T* dsums;                // [group]: [block][chunk_rows][sum or param][lane]
  T* dstates[max_states];  // [block][B][lane]: the gradient that the step before receives
  T* gradients;            // [group]: of w_ih and w_hh by unit, and of the biases
  Index weights, ih, hh;   // elements of a group, of w_ih, of w_hh
  SkipGradients<T> skips;
  void* products;
  void* forward;  // to compute the values of a segment again
  SegmentTape<T, Cell> again;
  std::size_t bytes;

  BackwardScratch(void* buffer, const Dims& d, const Rows& rows, Index skip)
      : BackwardScratch(Pieces{static_cast<char*>(buffer)}, d, rows, skip) {}
  T* dw_ih(Index group) const { return gradients + group * weights; }
  T* dw_hh(Index group) const { return dw_ih(group) + ih; }
  T* db(Index group) const { return dw_hh(group) + hh; }  // [block][sum or param][lane]

 private:
  static constexpr Index S = Cell::sums + Cell::params;

  BackwardScratch(Pieces pieces, const Dims& d, const Rows& rows, Index skip)
      : again(pieces, d, rows.segments > 1 ? rows.segment_rows : 0) {
    const Index padded = blocks_of<T>(d.H) * lanes<T>;
    dsums = pieces.take<T>(rows.groups * padded * S * rows.chunk_rows);
    for (int q = 0; q < Cell::states; ++q) dstates[q] = pieces.take<T>(d.B * padded);
    ih = unit_packed_size<T, Cell>(d.H, P::padded_inputs(d.I));
    hh = unit_packed_size<T, Cell>(d.H, P::padded_inputs(d.H));
    weights = ih + hh + padded * S;
    gradients = pieces.take<T>(rows.groups * weights);
    const Index blocks = blocks_of<T>(d.H);
    skips = {pieces.take<T>(SkipGradients<T>::size(skip, blocks, d.B)), skip, blocks, d.B};
    products = pieces.take<char>(static_cast<Index>(P::Backward::scratch_bytes(d, rows)));
    const std::size_t forward_bytes = rows.segments > 1 ? ForwardScratch<P>(nullptr, d, rows.first[d.T]).bytes : 0;
    forward = pieces.take<char>(static_cast<Index>(forward_bytes));
    bytes = pieces.used;
  }
};

// What computing a segment again needs of the forward call.
template <class T>
ForwardCall<T> forward_call(const BackwardCall<T>& call, void* scratch) {
  ForwardCall<T> f{};
  f.dims = call.dims, f.rows = call.rows, f.options = call.options, f.extras = call.extras;
  f.x = call.x, f.y = const_cast<T*>(call.y);
  f.weights = const_cast<void*>(call.weights), f.tape = const_cast<void*>(call.tape);
  f.scratch = scratch;
  return f;
}

template <class P>
struct Backward {
  using T = typename P::T;
  using Cell = typename P::Cell;
  static constexpr int G = Cell::gates, S = Cell::sums + Cell::params;
  static constexpr Index L = lanes<T>;
  const BackwardCall<T>& call;
  const Dims& d;
  const Rows& rows;
  const Team& team;
  const Tape<P> tape;
  const BackwardScratch<P> scratch;
  const Index blocks, padded;
  const Range units;      // blocks of this rank
  const bool own_groups;  // each rank takes a group of sequences, and waits for nobody
  mutable Patience patience;
  // Of the chunk at hand; of this rank's own, where it has its own group: it does not wait, and may
  // be in another chunk than the others.
  T* const dsums;
  const typename P::Backward products;

  Backward(const BackwardCall<T>& c, const Team& t)
      : call(c),
        d(c.dims),
        rows(c.rows),
        team(t),
        tape(const_cast<void*>(c.tape), c.dims, c.rows),
        scratch(c.scratch, c.dims, c.rows, c.extras.skip),
        blocks(blocks_of<T>(c.dims.H)),
        padded(blocks * L),
        units(t.sequences ? Range{0, blocks} : share_of(blocks, column_blocks, t)),
        own_groups(t.sequences && t.size == c.rows.groups),
        patience{t},
        dsums(scratch.dsums + (own_groups ? t.rank : 0) * padded * S * c.rows.chunk_rows),
        products(d, rows, dsums, scratch.products, own_groups ? t.rank : 0, patience) {}

  // Of `count` sequences, those of this rank.
  Range sequences(Index count) const {
    if (!team.sequences) return {0, count};
    return {smaller(team.sequences[team.rank], count),
            smaller(team.sequences[team.rank + 1], count)};
  }

  // --- one step: the cell's equations

  // Before the equations: the gradient that an earlier h takes, and the parts of the old states that
  // stay.
  BPTT_INLINE void start(Index t, Index row, Index j, Vec<T>* ds, Vec<T>* stays) const {
    const Index used = used_lanes<T>(j, d.H), at = (rows.first[t] + row) * d.H + j * L;
    if (scratch.skips.skip) {
      T* skipped = scratch.skips.at(t, j, row);
      ds[0] = ds[0] + Vec<T>(load(skipped));
      store(skipped, ds[0].v);
    }
    BPTT_UNROLL for (int q = 0; q < Cell::states; ++q) {
      const Vec<T> z = zoneout(call.extras, q, at, used);
      stays[q] = z * ds[q];
      ds[q] = ds[q] - stays[q];
    }
  }

  // Rows `r` of step t in block j, which share where their previous state lies.
  void step_units(Index t, Index j, Range r, const T* h, const StepState<T> (&before)[max_states],
                  const Forward<P>& forward, T* out) const {
    const Index used = used_lanes<T>(j, d.H), first = rows.first[t], column = j * L;
    const T* saved =
        forward.values.saved +
        ((first - forward.states.segment_row) * blocks + j * rows.count[t]) * Cell::saved * L;
    BPTT_NO_UNROLL for (Index row = r.begin; row < r.end; ++row) {
      Vec<T> p[Cell::params + 1], ds[Cell::states], k[Cell::saved + 1], s0[Cell::states],
          s[Cell::states], da[S], ds0[Cell::states], stays[Cell::states];
      BPTT_UNROLL for (int q = 0; q < Cell::states; ++q) ds[q] =
          load(scratch.dstates[q] + (j * d.B + row) * L);
      if (call.dy) ds[0] = ds[0] + Vec<T>(load(call.dy + (first + row) * d.H + column, used));
      BPTT_UNROLL for (int i = 0; i < Cell::params; ++i) p[i] =
          load(tape.params + (j * Cell::params + i) * L);
      if constexpr (Cell::general) start(t, row, j, ds, stays);
      BPTT_UNROLL for (int i = 0; i < Cell::saved; ++i) k[i] =
          load(saved + (row * Cell::saved + i) * L);
      if (Cell::passes_h) s0[0] = load(h + row * d.H + column, used);
      if (!Cell::saved) s[0] = load(call.y + (first + row) * d.H + column, used);
      BPTT_UNROLL for (int q = 1; q < Cell::states; ++q) {
        s0[q] = load(before[q].at(j, row));
        s[q] = load(forward.states.after(q, t).at(j, row));
      }
      Cell::backward(call.options, p, ds, k, s0, s, da, ds0);
      if constexpr (Cell::general) {
        BPTT_UNROLL for (int q = 0; q < Cell::states; ++q) ds0[q] = ds0[q] + stays[q];
      }
      if (used < L) {  // keep what padding made of an infinite or NaN input out of the products
        for (int i = 0; i < S; ++i)
          for (Index l = used; l < L; ++l) da[i].v[l] = 0;
      }
      BPTT_UNROLL for (int i = 0; i < S; ++i) store(out + (row * S + i) * L, da[i].v);
      BPTT_UNROLL for (int q = Cell::passes_h ? 0 : 1; q < Cell::states; ++q)
          store(scratch.dstates[q] + (j * d.B + row) * L, ds0[q].v);
    }
  }

  void step(Index t, Range mine, const Forward<P>& forward, T* out) const {
    const StepRows step(rows, d.T, t);
    StepState<T> before[max_states]{}, initial[max_states]{};
    const T* h = step.continuing ? call.y + rows.first[step.previous] * d.H : nullptr;
    for (int q = 1; q < Cell::states; ++q) {
      initial[q] = forward.states.before_first(q);
      if (step.continuing) before[q] = forward.states.before(q, t, step);
    }
    const Index middle = larger(mine.begin, smaller(mine.end, step.continuing));
    for (Index j = units.begin; j < units.end; ++j) {
      T* block = out + j * rows.chunk_rows * S * L;
      step_units(t, j, {mine.begin, middle}, h, before, forward, block);
      step_units(t, j, {middle, mine.end}, tape.h0, initial, forward, block);
    }
  }

  // --- products with packed weights: dx, and the gradient passed back to h

  // The path of the gradient through w_hh, added to the one that the cell gave.
  // first: row of the step in the chunk.
  void pass_back(Index first, Range r) const {
    products.template each_tile<HSide<Cell>>(
        {first + r.begin, first + r.end}, tape.w_hh, d.H, units,
        [&](Index row, Index n_rows, Index column, Index width, const T* tile) {
          for (Index b = 0; b < width; ++b)
            for (Index i = 0; i < n_rows; ++i) {
              T* dh = scratch.dstates[0] + ((column / L + b) * d.B + row - first + i) * L;
              Native<T> v = load(tile + (i * width + b) * L);
              if (d.masked)
                v *= load(call.extras.h_mask + (row - first + i) * d.H + column + b * L,
                          used_lanes<T>(column / L + b, d.H));
              store(dh, Cell::passes_h ? load(dh) + v : v);
            }
        });
  }

  void input_gradient(const Span& chunk) const {
    if (!own_groups) return input_gradient(chunk.row, share_of(chunk.rows, max_rows, team));
    for (Index t = chunk.begin; t < chunk.end; ++t) {
      const Range mine = sequences(rows.count[t]);
      const Index first = rows.first[t] - chunk.row;
      input_gradient(chunk.row, {first + mine.begin, first + mine.end});
    }
  }

  // Rows r of a chunk that begins with row `start`.
  void input_gradient(Index start, Range r) const {
    products.template each_tile<XSide<Cell>>(
        r, tape.w_ih, d.I, {0, blocks_of<T>(d.I)},
        [&](Index row, Index n_rows, Index column, Index width, const T* tile) {
          for (Index i = 0; i < n_rows; ++i)
            for (Index b = 0; b < width; ++b)
              store(call.dx + (start + row + i) * d.I + column + b * L,
                    load(tile + (i * width + b) * L), used_lanes<T>(column / L + b, d.I));
        });
  }

  // --- weight gradients of a chunk: for each group of sequences its own, so that the order of the
  // sums does not depend on whether two ranks take one group each or share the inputs of both

  // Inputs n of the weights (those of x, then those of h) and blocks of the biases.
  void group_gradient(const Span& chunk, Index group, Range n, Range mine) const {
    const Range sequences{rows.group[group], rows.group[group + 1]};
    const auto each_step = [&](const auto& f) {
      for (Index t = chunk.begin; t < chunk.end; ++t) {
        const StepRows step(rows, d.T, t);
        const Range r{smaller(sequences.begin, step.count), smaller(sequences.end, step.count)};
        f(t, step, r, rows.first[t] - chunk.row);
      }
    };
    in_pieces<T>(
        d.I,
        [&](const auto& add) {
          each_step([&](Index t, const StepRows&, Range r, Index row) {
            add(call.x + (rows.first[t] + r.begin) * d.I, row + r.begin, r.end - r.begin);
          });
        },
        [&](const Runs<T>& runs) {
          products.template add_weights<XSide<Cell>>(
              runs, d.I, {smaller(n.begin, d.I), smaller(n.end, d.I)}, scratch.dw_ih(group));
          add_bias(runs, mine, scratch.db(group));
        });
    const T *after = d.masked ? tape.masked.h : call.y,
            *before_first = d.masked ? tape.masked.h0 : tape.h0;
    in_pieces<T>(
        d.H,
        [&](const auto& add) {
          each_step([&](Index, const StepRows& step, Range r, Index row) {
            const Index middle = larger(r.begin, smaller(r.end, step.continuing));
            if (r.begin < middle)
              add(after + (rows.first[step.previous] + r.begin) * d.H, row + r.begin,
                  middle - r.begin);
            add(before_first + middle * d.H, row + middle, r.end - middle);
          });
        },
        [&](const Runs<T>& runs) {
          products.template add_weights<HSide<Cell>>(
              runs, d.H, {larger(n.begin - d.I, 0), larger(n.end - d.I, 0)}, scratch.dw_hh(group));
        });
  }

  // Blocks `mine` of db, [block][sum or param][lane].
  void add_bias(const Runs<T>& runs, Range mine, T* db) const {
    for (Index j = mine.begin; j < mine.end; ++j) {
      Vec<T> sum[S];
      BPTT_UNROLL for (int i = 0; i < S; ++i) sum[i] = Vec<T>(0);
      for (int k = 0; k < runs.count; ++k) {
        const T* first = dsums + (j * rows.chunk_rows + runs.run[k].row) * S * L;
        const T* end = first + runs.run[k].rows * S * L;
        BPTT_NO_UNROLL for (const T* p = first; p != end; p += S * L) {
          BPTT_UNROLL for (int i = 0; i < S; ++i) sum[i] = sum[i] + Vec<T>(load(p + i * L));
        }
      }
      T* out = db + j * S * L;
      BPTT_UNROLL for (int i = 0; i < S; ++i) store(out + i * L, load(out + i * L) + sum[i].v);
    }
  }

  // The gradients of all groups into that of the first, inputs of rank's share.
  void add_groups() const {
    const Range mine = share_of(scratch.weights, 16, team);
    for (Index g = 1; g < rows.groups; ++g)
      for (Index i = mine.begin; i < mine.end; ++i)
        scratch.gradients[i] += scratch.gradients[g * scratch.weights + i];
  }

  // --- the loop

  // f(rows) between two steps that need what all ranks have done: a rank that has all units of its
  // sequences needs nobody.
  template <class F>
  bool on_whole_rows(Range mine, Index count, const F& f) const {
    if (team.sequences) return f(mine), true;
    if (!patience.wait()) return false;
    f(share_of(count, 1, team));
    return patience.wait();
  }

  void run_chunk(const Span& chunk, const Forward<P>& forward) const {
    const StepClip& clip = call.step_clip;
    const Limits<T, Cell> limits{call, blocks, scratch.dstates, scratch.skips};
    for (Index n = 0; n < chunk.end - chunk.begin; ++n) {
      const Index t = rows.reverse ? chunk.begin + n : chunk.end - 1 - n;
      const Range mine = sequences(rows.count[t]);
      const Index first = rows.first[t] - chunk.row;
      T* sums = dsums + first * S * L;
      step(t, mine, forward, sums);
      if (clip.kind != StepClip::none && clip.target == StepClip::gates &&
          !on_whole_rows(mine, rows.count[t], [&](Range r) {
            limits.clip({sums, rows.chunk_rows * S, S}, Cell::sums, r);
          }))
        return;
      products.prepare({first + mine.begin, first + mine.end});
      if (!team.sequences && !patience.wait()) return;
      pass_back(first, mine);
      if (((clip.kind != StepClip::none && clip.target != StepClip::gates) || call.steps_left) &&
          !on_whole_rows(mine, rows.count[t], [&](Range r) { limits.bound_states(t, r); }))
        return;
      if (patience.stopped) return;
    }
    if (!own_groups && !patience.wait()) return;
    const Range all = {0, d.I + d.H}, every_block = {0, blocks};
    for (Index g = 0; g < rows.groups; ++g)
      if (!own_groups)
        group_gradient(chunk, g, share_of(all.end, max_rows, team), share_of(blocks, 1, team));
      else if (g == team.rank)
        group_gradient(chunk, g, all, every_block);
    input_gradient(chunk);
    if (!own_groups) patience.wait();
  }

  // What skips pass back to the initial state: of the step that is `skip` after it.
  void add_skipped(Range mine) const {
    const Index skip = call.extras.skip;
    for (Index r = mine.begin; r < mine.end; ++r) {
      Index length = 0;
      while (length < d.T && rows.count[length] > r) ++length;
      if (length < skip) continue;
      for (Index j = 0; j < blocks; ++j) {
        T* dh = scratch.dstates[0] + (j * d.B + r) * L;
        const T* skipped = scratch.skips.at(rows.reverse ? length - skip : skip - 1, j, r);
        store(dh, load(dh) + load(skipped));
      }
    }
  }

  bool run() const {
    const Range panels = share_of(blocks, unit_blocks<Cell>, team);
    const Range zeros = share_of(rows.groups * scratch.weights, 16, team);
    __builtin_memset(scratch.gradients + zeros.begin, 0,
                     static_cast<std::size_t>(zeros.end - zeros.begin) * sizeof(T));
    const Range mine = team.sequences ? sequences(d.B) : share_of(d.B, 1, team);
    for (int q = 0; q < Cell::states; ++q)
      to_blocks(call.dstate_n[q], d.H, mine, StepState<T>{scratch.dstates[q], d.B});
    for (Index i = 0; i < SkipGradients<T>::size(call.extras.skip, blocks, d.B); ++i)
      if (team.rank == 0) scratch.skips.base[i] = 0;
    if (!patience.wait()) return false;
    const ForwardCall<T> forward_of = forward_call(call, scratch.forward);
    for (Index k = rows.segments; k-- > 0 && !patience.stopped;) {
      const Index s = in_order(rows, rows.segments, k);
      const bool last = k + 1 == rows.segments;
      if (!last && !patience.wait()) break;  // the others may still need the values of the last one
      Forward<P> forward(forward_of, team, last ? tape.last : scratch.again, true);
      forward.states.enter(s);
      if (!last) forward.run_steps(segment_span(rows, s));
      patience.stopped |= forward.patience.stopped;
      const Index chunks = rows.segment[s + 1] - rows.segment[s];
      for (Index c = chunks; c-- > 0 && !patience.stopped;)
        run_chunk(chunk_span(rows, rows.segment[s] + in_order(rows, chunks, c)), forward);
    }
    if (!patience.wait()) return false;
    add_groups();
    if (!patience.wait()) return false;
    unpack_by_unit<T, Cell, XSide<Cell>>(scratch.dw_ih(0), d.H, d.I, P::padded_inputs(d.I), panels,
                                         call.dw_ih);
    unpack_by_unit<T, Cell, HSide<Cell>>(scratch.dw_hh(0), d.H, d.H, P::padded_inputs(d.H), panels,
                                         call.dw_hh);
    if (team.rank == 0) {
      unpack_bias<T, Cell>(scratch.db(0), d.H, call.db_ih, call.db_hh);
      unpack_params<T, Cell>(scratch.db(0), d.H, call.dparams);
    }
    if (call.extras.skip) add_skipped(mine);
    for (int q = 0; q < Cell::states; ++q)
      from_blocks(StepState<T>{scratch.dstates[q], d.B}, d.H, mine, call.dstate0[q]);
    return patience.wait();
  }
};
