// SPDX-License-Identifier: MIT
// The backward loop, in chunks of steps against the order of processing. Per step: the cell's
// equations give the gradients of the sums, kept as [block][row in chunk][sum][lane]; their product
// with w_hh is the gradient passed back. Per chunk: the same array, as it lies, is the right
// operand of the weight gradients and the left one of dx.

constexpr Index sum_rows = 512;  // summed at once: longer sums of floats lose precision

template <class T, class Cell>
struct BackwardScratch {
  T* dsums;                // [block][chunk_rows][sum][lane]
  T* dstates[max_states];  // [block][B][lane]: the gradient that the step before receives
  T *dw_ih, *dw_hh;        // by unit
  T* db;                   // [block][sum][lane]
  void* forward;           // to compute the values of a segment again
  SegmentTape<T, Cell> again;
  std::size_t bytes;

  BackwardScratch(void* buffer, const Dims& d, const Rows& rows)
      : BackwardScratch(Pieces{static_cast<char*>(buffer)}, d, rows) {}

 private:
  BackwardScratch(Pieces pieces, const Dims& d, const Rows& rows)
      : again(pieces, d, rows.segments > 1 ? rows.segment_rows : 0) {
    const Index padded = blocks_of<T>(d.H) * lanes<T>;
    dsums = pieces.take<T>(padded * Cell::sums * rows.chunk_rows);
    for (int q = 0; q < Cell::states; ++q) dstates[q] = pieces.take<T>(d.B * padded);
    dw_ih = pieces.take<T>(unit_packed_size<T, Cell>(d.H, d.I));
    dw_hh = pieces.take<T>(unit_packed_size<T, Cell>(d.H, d.H));
    db = pieces.take<T>(padded * Cell::sums);
    const std::size_t forward_bytes =
        rows.segments > 1 ? ForwardScratch<T, Cell>(nullptr, d).bytes : 0;
    forward = pieces.take<char>(static_cast<Index>(forward_bytes));
    bytes = pieces.used;
  }
};

// What computing a segment again needs of the forward call.
template <class T>
ForwardCall<T> forward_call(const BackwardCall<T>& call, void* scratch) {
  ForwardCall<T> f{};
  f.dims = call.dims, f.rows = call.rows, f.options = call.options;
  f.x = call.x, f.y = const_cast<T*>(call.y);
  f.weights = const_cast<void*>(call.weights), f.tape = const_cast<void*>(call.tape);
  f.scratch = scratch;
  return f;
}

template <class T, class Cell>
struct Backward {
  static constexpr int G = Cell::gates, S = Cell::sums;
  static constexpr Index L = lanes<T>;
  const BackwardCall<T>& call;
  const Dims& d;
  const Rows& rows;
  const Team& team;
  const Tape<T, Cell> tape;
  const BackwardScratch<T, Cell> scratch;
  const Index blocks, padded;
  const Range units;  // blocks of this rank
  mutable Patience patience;

  Backward(const BackwardCall<T>& c, const Team& t)
      : call(c),
        d(c.dims),
        rows(c.rows),
        team(t),
        tape(const_cast<void*>(c.tape), c.dims, c.rows),
        scratch(c.scratch, c.dims, c.rows),
        blocks(blocks_of<T>(c.dims.H)),
        padded(blocks * L),
        units(t.sequences ? Range{0, blocks} : share_of(blocks, column_blocks, t)),
        patience{t} {}

  // Of `count` sequences, those of this rank.
  Range sequences(Index count) const {
    if (!team.sequences) return {0, count};
    return {smaller(team.sequences[team.rank], count),
            smaller(team.sequences[team.rank + 1], count)};
  }

  // --- one step: the cell's equations

  // Rows `r` of step t in block j, which share where their previous state lies.
  void step_units(Index t, Index j, Range r, const T* h, const StepState<T> (&before)[max_states],
                  const Forward<T, Cell>& forward, T* dsums) const {
    const Index used = used_lanes<T>(j, d.H), first = rows.first[t], column = j * L;
    const T* saved =
        forward.values.saved +
        ((first - forward.states.segment_row) * blocks + j * rows.count[t]) * Cell::saved * L;
    BPTT_NO_UNROLL for (Index row = r.begin; row < r.end; ++row) {
      Vec<T> ds[Cell::states], k[Cell::saved + 1], s0[Cell::states], s[Cell::states], da[S],
          ds0[Cell::states];
      BPTT_UNROLL for (int q = 0; q < Cell::states; ++q) ds[q] =
          load(scratch.dstates[q] + (j * d.B + row) * L);
      if (call.dy) ds[0] = ds[0] + Vec<T>(load(call.dy + (first + row) * d.H + column, used));
      BPTT_UNROLL for (int i = 0; i < Cell::saved; ++i) k[i] =
          load(saved + (row * Cell::saved + i) * L);
      if (Cell::passes_h) s0[0] = load(h + row * d.H + column, used);
      if (!Cell::saved) s[0] = load(call.y + (first + row) * d.H + column, used);
      BPTT_UNROLL for (int q = 1; q < Cell::states; ++q) {
        s0[q] = load(before[q].at(j, row));
        s[q] = load(forward.states.after(q, t).at(j, row));
      }
      Cell::backward(call.options, ds, k, s0, s, da, ds0);
      if (used < L) {  // keep what padding made of an infinite or NaN input out of the products
        for (int i = 0; i < S; ++i)
          for (Index l = used; l < L; ++l) da[i].v[l] = 0;
      }
      BPTT_UNROLL for (int i = 0; i < S; ++i) store(dsums + (row * S + i) * L, da[i].v);
      BPTT_UNROLL for (int q = Cell::passes_h ? 0 : 1; q < Cell::states; ++q)
          store(scratch.dstates[q] + (j * d.B + row) * L, ds0[q].v);
    }
  }

  void step(Index t, Range mine, const Forward<T, Cell>& forward, T* dsums) const {
    const StepRows step(rows, d.T, t);
    StepState<T> before[max_states]{}, initial[max_states]{};
    const T* h = step.continuing ? call.y + rows.first[step.previous] * d.H : nullptr;
    for (int q = 1; q < Cell::states; ++q) {
      initial[q] = forward.states.before_first(q);
      if (step.continuing) before[q] = forward.states.before(q, t, step);
    }
    const Index middle = larger(mine.begin, smaller(mine.end, step.continuing));
    for (Index j = units.begin; j < units.end; ++j) {
      T* out = dsums + j * rows.chunk_rows * S * L;
      step_units(t, j, {mine.begin, middle}, h, before, forward, out);
      step_units(t, j, {middle, mine.end}, tape.h0, initial, forward, out);
    }
  }

  // --- products with packed weights: dx, and the gradient passed back to h

  // out[MR][P*NV][lane] = gradients of the sums in one window, times P panels of NV column blocks.
  // A narrow panel is summed in several chains, so that there are enough that do not wait for each
  // other.
  template <class Side, int MR, int P, int NV>
  __attribute__((noinline)) static void product_tile(const T* dsums, Index block_stride,
                                                     Index blocks, const T* w, T* out) {
    constexpr int chains = P > 1 || NV > 2 ? 1 : NV == 1 && G * L % 4 == 0 ? 4 : 2;
    constexpr Index row = NV * L;
    const Index panel = chains > 1 ? row : blocks * G * L * row;
    Tile<T, MR, P * chains * NV> acc;
    clear<T, MR, P * chains * NV>(acc);
    for (Index j = 0; j < blocks; ++j)
      multiply_add<T, MR, P * chains, NV, 1, 0, 1>(
          acc, dsums + j * block_stride + Side::first * L, S * L, chains > 1 ? 1 : 0, chains,
          w + j * G * L * row, panel, chains * row, G * L / chains);
    BPTT_UNROLL for (int r = 0; r < MR; ++r) BPTT_UNROLL for (int v = 0; v < P * NV; ++v) {
      Native<T> sum = acc[r][v];
      if constexpr (chains == 2) sum += acc[r][NV + v];
      if constexpr (chains == 4)
        sum = (sum + acc[r][NV + v]) + (acc[r][2 * NV + v] + acc[r][3 * NV + v]);
      store(out + (r * P * NV + v) * L, sum);
    }
  }

  // f(row, rows, column, blocks, tile) for every tile of rows r of dsums times columns c of w, w
  // being [gates*H, K] packed by column.
  template <class Side, class F>
  void products(const T* dsums, Range r, const T* w, Index K, Range c, const F& f) const {
    constexpr Index wide = 2 * column_blocks;
    alignas(64) T tile[max_rows * wide * L];
    const Index stride = rows.chunk_rows * S * L;
    const bool few = r.end - r.begin <= few_rows;
    for (Index j = c.begin, width; j < c.end; j += width) {
      const Index full = K / (column_blocks * L) * column_blocks;
      width = few && j + wide <= smaller(full, c.end) ? wide : smaller(column_blocks, c.end - j);
      const T* panel = w + j * L * padded * G;
      if (patience.ends(r.end - r.begin, padded * G, width * L)) return;
      each_row_block(r.begin, r.end, [&](auto mr, Index row) {
        const T* left = dsums + row * S * L;
        if constexpr (mr.value <= few_rows) {
          if (width == wide)
            product_tile<Side, mr.value, 2, column_blocks>(left, stride, blocks, panel, tile);
        }
        if (width < wide)
          with_int<column_blocks>(width, [&](auto nv) {
            product_tile<Side, mr.value, 1, nv.value>(left, stride, blocks, panel, tile);
          });
        f(row, Index(mr.value), j * L, width, tile);
      });
    }
  }

  // The path of the gradient through w_hh, added to the one that the cell gave.
  void pass_back(Range r, const T* dsums) const {
    products<HSide<Cell>>(dsums, r, tape.w_hh, d.H, units,
                          [&](Index row, Index n_rows, Index column, Index width, const T* tile) {
                            for (Index b = 0; b < width; ++b)
                              for (Index i = 0; i < n_rows; ++i) {
                                T* dh = scratch.dstates[0] + ((column / L + b) * d.B + row + i) * L;
                                const Native<T> v = load(tile + (i * width + b) * L);
                                store(dh, Cell::passes_h ? load(dh) + v : v);
                              }
                          });
  }

  void input_gradient(const Span& chunk) const {
    const Range r = share_of(chunk.rows, max_rows, team), columns{0, blocks_of<T>(d.I)};
    products<XSide<Cell>>(scratch.dsums, r, tape.w_ih, d.I, columns,
                          [&](Index row, Index n_rows, Index column, Index width, const T* tile) {
                            for (Index r = 0; r < n_rows; ++r)
                              for (Index b = 0; b < width; ++b)
                                store(call.dx + (chunk.row + row + r) * d.I + column + b * L,
                                      load(tile + (r * width + b) * L),
                                      used_lanes<T>(column / L + b, d.I));
                          });
  }

  // --- clipping of the gradient passed back

  void clip_rows(Range mine) const {
    const T bound = T(call.step_clip.bound);
    for (Index r = mine.begin; r < mine.end; ++r) {
      if (call.step_clip.kind == StepClip::norm) clip_norm(r);
      for (Index j = 0; j < blocks && call.step_clip.kind == StepClip::value; ++j) {
        T* dh = scratch.dstates[0] + (j * d.B + r) * L;
        store(dh, maximum(broadcast(-bound), minimum(broadcast(bound), load(dh))));
      }
    }
  }

  // In double and relative to the largest element: squares of large floats stay finite, and the
  // padding takes no part. A gradient that is not finite stays as it is.
  void clip_norm(Index r) const {
    const auto each = [&](const auto& f) {
      for (Index j = 0; j < blocks; ++j) {
        T* dh = scratch.dstates[0] + (j * d.B + r) * L;
        for (Index l = 0; l < used_lanes<T>(j, d.H); ++l) f(dh[l]);
      }
    };
    double largest = 0, sum = 0;
    each([&](T v) { largest = __builtin_fmax(largest, __builtin_fabs(static_cast<double>(v))); });
    if (!(largest > 0)) return;
    each([&](T v) {
      const double scaled = static_cast<double>(v) / largest;
      sum += scaled * scaled;
    });
    const double root = __builtin_sqrt(sum);
    if (!(largest * root > call.step_clip.bound)) return;
    const double factor = call.step_clip.bound / largest / root;
    each([&](T& v) { v = T(static_cast<double>(v) * factor); });
  }

  // --- weight gradients of a chunk

  // dw[n + r, ...] += sum over K rows of left[row, n + r] * dsums[row, ...]: left is x or h as it
  // lies.
  template <class Side, int MR, int NB>
  __attribute__((noinline)) static void weight_tile(const T* left, Index left_row, const T* dsums,
                                                    Index block_stride, Index K, T* dw) {
    prefetch_for_writing(dw, sizeof(T) * MR * NB * G * L);
    Tile<T, MR, NB * G> acc;
    clear<T, MR, NB * G>(acc);
    multiply_add<T, MR, NB, 1, G, 0, G>(acc, left, 1, 0, left_row, dsums + Side::first * L,
                                        block_stride, S * L, K);
    // Added here, not loaded as the start: the sums would wait for memory.
    BPTT_UNROLL for (int r = 0; r < MR; ++r) BPTT_UNROLL for (int v = 0; v < NB * G; ++v) {
      T* p = dw + (r * NB * G + v) * L;
      store(p, load(p) + acc[r][v]);
    }
  }

  // Inputs n of dw (by unit, N inputs) += left[K, N]^T dsums[row .. row + K)
  template <class Side>
  void weight_gradient(const T* left, Index N, Range n, Index row, Index K, T* dw) const {
    const Index block_stride = rows.chunk_rows * S * L;
    for (Index k = 0; k < K && n.begin < n.end; k += sum_rows)
      for (Index j = 0; j < blocks; j += unit_blocks<Cell>) {
        const Index width = smaller(unit_blocks<Cell>, blocks - j),
                    count = smaller(sum_rows, K - k);
        if (patience.ends(count, n.end - n.begin, width * G * L)) return;
        const T* dsums = scratch.dsums + j * block_stride + (row + k) * S * L;
        T* panel = dw + j * N * G * L;
        each_row_block(n.begin, n.end, [&](auto mr, Index i) {
          with_int<unit_blocks<Cell>>(width, [&](auto nb) {
            weight_tile<Side, mr.value, nb.value>(left + k * N + i, N, dsums, block_stride, count,
                                                  panel + i * width * G * L);
          });
        });
      }
  }

  // The sum of the gradients of a chunk's sums, in pieces.
  void bias_gradient(const Span& chunk) const {
    const Range mine = share_of(blocks, 1, team);
    for (Index j = mine.begin; j < mine.end; ++j) {
      Vec<T> total[S];
      BPTT_UNROLL for (int i = 0; i < S; ++i) total[i] = Vec<T>(0);
      for (Index k = 0; k < chunk.rows; k += sum_rows) {
        const T* dsums = scratch.dsums + (j * rows.chunk_rows + k) * S * L;
        Vec<T> part[S];
        BPTT_UNROLL for (int i = 0; i < S; ++i) part[i] = Vec<T>(0);
        const Index n = smaller(sum_rows, chunk.rows - k);
        BPTT_NO_UNROLL for (Index r = 0; r < n; ++r) {
          BPTT_UNROLL for (int i = 0; i < S; ++i) part[i] =
              part[i] + Vec<T>(load(dsums + (r * S + i) * L));
        }
        BPTT_UNROLL for (int i = 0; i < S; ++i) total[i] = total[i] + part[i];
      }
      T* db = scratch.db + j * S * L;
      BPTT_UNROLL for (int i = 0; i < S; ++i) store(db + i * L, load(db + i * L) + total[i].v);
    }
  }

  // Rows of the chunk whose previous h are neighbours in memory form one product; with equal
  // lengths that is the whole chunk, but for the rows that start from h0.
  void recurrent_weight_gradient(const Span& chunk, Range inputs) const {
    const T* left = nullptr;
    Index start = 0, n = 0;
    const auto add = [&](const T* h, Index row, Index count) {
      if (!count) return;
      if (n && row == start + n && h == left + n * d.H) {
        n += count;
        return;
      }
      if (n) weight_gradient<HSide<Cell>>(left, d.H, inputs, start, n, scratch.dw_hh);
      left = h, start = row, n = count;
    };
    for (Index t = chunk.begin; t < chunk.end; ++t) {
      const StepRows step(rows, d.T, t);
      const Index row = rows.first[t] - chunk.row;
      if (step.continuing) add(call.y + rows.first[step.previous] * d.H, row, step.continuing);
      add(tape.h0 + step.continuing * d.H, row + step.continuing, step.count - step.continuing);
    }
    if (n) weight_gradient<HSide<Cell>>(left, d.H, inputs, start, n, scratch.dw_hh);
  }

  // --- the loop

  void run_chunk(const Span& chunk, const Forward<T, Cell>& forward) const {
    for (Index n = 0; n < chunk.end - chunk.begin; ++n) {
      const Index t = rows.reverse ? chunk.begin + n : chunk.end - 1 - n;
      const Range mine = sequences(rows.count[t]);
      T* dsums = scratch.dsums + (rows.first[t] - chunk.row) * S * L;
      step(t, mine, forward, dsums);
      if (!team.sequences && !patience.wait()) return;
      pass_back(mine, dsums);
      if (call.step_clip.kind != StepClip::none) {
        if (!team.sequences && !patience.wait()) return;
        clip_rows(team.sequences ? mine : share_of(rows.count[t], 1, team));
        if (!team.sequences && !patience.wait()) return;
      }
      if (patience.stopped) return;
    }
    if (!patience.wait()) return;
    const Range inputs = share_of(d.I + d.H, max_rows, team);  // x and h side by side
    weight_gradient<XSide<Cell>>(call.x + chunk.row * d.I, d.I,
                                 {smaller(inputs.begin, d.I), smaller(inputs.end, d.I)}, 0,
                                 chunk.rows, scratch.dw_ih);
    recurrent_weight_gradient(chunk, {larger(inputs.begin - d.I, 0), larger(inputs.end - d.I, 0)});
    bias_gradient(chunk);
    input_gradient(chunk);
    patience.wait();
  }

  bool run() const {
    const Range xs = share_of(d.I, 1, team), hs = share_of(d.H, 1, team);
    const Range panels = share_of(blocks, unit_blocks<Cell>, team);
    zero(scratch.dw_ih, unit_packed_size<T, Cell>(d.H, 1), xs);
    zero(scratch.dw_hh, unit_packed_size<T, Cell>(d.H, 1), hs);
    zero(scratch.db, S * L, {panels.begin, panels.end});
    const Range mine = team.sequences ? sequences(d.B) : share_of(d.B, 1, team);
    for (int q = 0; q < Cell::states; ++q)
      to_blocks(call.dstate_n[q], d.H, mine, StepState<T>{scratch.dstates[q], d.B});
    if (!patience.wait()) return false;
    const ForwardCall<T> forward_of = forward_call(call, scratch.forward);
    for (Index k = rows.segments; k-- > 0 && !patience.stopped;) {
      const Index s = in_order(rows, rows.segments, k);
      const bool last = k + 1 == rows.segments;
      Forward<T, Cell> forward(forward_of, team, last ? tape.last : scratch.again, true);
      forward.states.enter(s);
      if (!last) forward.run_steps(segment_span(rows, s));
      patience.stopped |= forward.patience.stopped;
      const Index chunks = rows.segment[s + 1] - rows.segment[s];
      for (Index c = chunks; c-- > 0 && !patience.stopped;)
        run_chunk(chunk_span(rows, rows.segment[s] + in_order(rows, chunks, c)), forward);
    }
    if (!patience.wait()) return false;
    unpack_by_unit<T, Cell, XSide<Cell>>(scratch.dw_ih, d.H, d.I, panels, call.dw_ih);
    unpack_by_unit<T, Cell, HSide<Cell>>(scratch.dw_hh, d.H, d.H, panels, call.dw_hh);
    if (team.rank == 0) unpack_bias<T, Cell>(scratch.db, d.H, call.db_ih, call.db_hh);
    for (int q = 0; q < Cell::states; ++q)
      from_blocks(StepState<T>{scratch.dstates[q], d.B}, d.H, mine, call.dstate0[q]);
    return patience.wait();
  }

  // Things r of `size` elements each.
  static void zero(T* p, Index size, Range r) {
    __builtin_memset(p + r.begin * size, 0,
                     static_cast<std::size_t>((r.end - r.begin) * size) * sizeof(T));
  }
};
