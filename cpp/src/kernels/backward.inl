// SPDX-License-Identifier: MIT
// The backward loop, in chunks of steps against the order of processing. Per step: the cell's
// equations give the gradients of the sums, kept as [block][row in chunk][sum][lane]; their product
// with w_hh is the gradient passed back. Per chunk: the same array, as it lies, is the right
// operand of the weight gradients and the left one of dx.

constexpr Index chunk_target_rows = 128;
constexpr Index sum_rows = 512;  // summed at once: longer sums of floats lose precision

template <class Cell>
BPTT_INLINE Index chunk_capacity(const Dims& d, const Rows& rows) {
  const Index total = rows.first[d.T];
  return larger(d.T ? rows.count[0] : 0, smaller(total, chunk_target_rows));
}

template <class T, class Cell>
struct BackwardScratch {
  Index capacity;          // rows of a chunk
  T* dsums;                // [block][capacity][sum][lane]
  T* dstates[max_states];  // [block][B][lane]: the gradient that the step before receives
  T *dw_ih, *dw_hh;        // by unit
  T *db, *db_chunk;        // [block][sum][lane]: summed in two levels, for precision
  std::size_t bytes;

  BackwardScratch(void* buffer, const Dims& d, const Rows& rows)
      : capacity(chunk_capacity<Cell>(d, rows)) {
    Pieces pieces{static_cast<char*>(buffer)};
    const Index padded = blocks_of<T>(d.H) * lanes<T>;
    dsums = pieces.take<T>(padded * Cell::sums * capacity);
    for (int q = 0; q < Cell::states; ++q) dstates[q] = pieces.take<T>(d.B * padded);
    dw_ih = pieces.take<T>(unit_packed_size<T, Cell>(d.H, d.I));
    dw_hh = pieces.take<T>(unit_packed_size<T, Cell>(d.H, d.H));
    db = pieces.take<T>(padded * Cell::sums);
    db_chunk = pieces.take<T>(padded * Cell::sums);
    bytes = pieces.used;
  }
};

// Steps [begin, end), rows [row, row + rows) of x, y and the tape.
struct Chunk {
  Index begin, end, row, rows;
};

template <class T, class Cell>
struct Backward {
  static constexpr int G = Cell::gates, S = Cell::sums;
  static constexpr Index L = lanes<T>;
  const BackwardCall<T>& call;
  const Dims& d;
  const Rows& rows;
  const Tape<T, Cell> tape;
  const BackwardScratch<T, Cell> scratch;
  const Index blocks, padded;
  mutable Patience patience;

  explicit Backward(const BackwardCall<T>& c)
      : call(c),
        d(c.dims),
        rows(c.rows),
        tape(const_cast<void*>(c.tape), c.dims, c.rows.first[c.dims.T]),
        scratch(c.scratch, c.dims, c.rows),
        blocks(blocks_of<T>(c.dims.H)),
        padded(blocks * L),
        patience{c.interrupt} {}

  // --- one step: the cell's equations

  // Rows [begin, end) of step t in block j, which share where their previous state lies.
  void units(Index t, Index j, Index begin, Index end, const T* h,
             const StepState<T> (&before)[max_states], T* dsums, Vec<T> (&db)[S]) const {
    const Index used = used_lanes<T>(j, d.H), first = rows.first[t], column = j * L;
    const T* saved = tape.saved + (first * blocks + j * rows.count[t]) * Cell::saved * L;
    BPTT_NO_UNROLL for (Index r = begin; r < end; ++r) {
      Vec<T> ds[Cell::states], k[Cell::saved + 1], s0[Cell::states], s[Cell::states], da[S],
          ds0[Cell::states];
      BPTT_UNROLL for (int q = 0; q < Cell::states; ++q) ds[q] =
          load(scratch.dstates[q] + (j * d.B + r) * L);
      if (call.dy) ds[0] = ds[0] + Vec<T>(load(call.dy + (first + r) * d.H + column, used));
      BPTT_UNROLL for (int i = 0; i < Cell::saved; ++i) k[i] =
          load(saved + (r * Cell::saved + i) * L);
      if (Cell::passes_h) s0[0] = load(h + r * d.H + column, used);
      if (!Cell::saved) s[0] = load(call.y + (first + r) * d.H + column, used);
      BPTT_UNROLL for (int q = 1; q < Cell::states; ++q) {
        s0[q] = load(before[q].at(j, r));
        s[q] = load(StepState<T>{tape.states[q] + first * padded, rows.count[t]}.at(j, r));
      }
      Cell::backward(call.options, ds, k, s0, s, da, ds0);
      T* out = dsums + r * S * L;
      if (used < L) {  // keep what padding made of an infinite or NaN input out of the products
        for (int i = 0; i < S; ++i)
          for (Index l = used; l < L; ++l) da[i].v[l] = 0;
      }
      BPTT_UNROLL for (int i = 0; i < S; ++i) {
        store(out + i * L, da[i].v);
        db[i] = db[i] + da[i];
      }
      BPTT_UNROLL for (int q = Cell::passes_h ? 0 : 1; q < Cell::states; ++q)
          store(scratch.dstates[q] + (j * d.B + r) * L, ds0[q].v);
    }
  }

  void step_units(Index t, T* dsums) const {
    const StepRows step(rows, d.T, t);
    StepState<T> before[max_states]{}, initial[max_states]{};
    const T* h = nullptr;
    for (int q = 1; q < Cell::states; ++q) initial[q] = {tape.state0[q], d.B};
    if (step.continuing) {
      h = call.y + rows.first[step.previous] * d.H;
      for (int q = 1; q < Cell::states; ++q)
        before[q] = {tape.states[q] + rows.first[step.previous] * padded,
                     rows.count[step.previous]};
    }
    for (Index j = 0; j < blocks; ++j) {
      T* out = dsums + j * scratch.capacity * S * L;
      for (Index begin = 0; begin < step.count;) {
        const bool first = begin >= step.continuing;
        const Index end = smaller(first ? step.count : step.continuing, begin + sum_rows);
        Vec<T> db[S];
        BPTT_UNROLL for (int i = 0; i < S; ++i) db[i] = Vec<T>(0);
        units(t, j, begin, end, first ? tape.h0 : h, first ? initial : before, out, db);
        T* total = scratch.db_chunk + (j * S) * L;
        BPTT_UNROLL for (int i = 0; i < S; ++i) store(total + i * L, load(total + i * L) + db[i].v);
        begin = end;
      }
    }
  }

  // --- products with packed weights: dx, and the gradient passed back to h

  // out[MR][NV][lane] = gradients of the sums in one window, times one panel of columns.
  template <class Side, int MR, int NV>
  __attribute__((noinline)) static void product_tile(const T* dsums, Index block_stride,
                                                     Index blocks, const T* w, T* out) {
    Tile<T, MR, NV> acc;
    zero<T, MR, NV>(acc);
    for (Index j = 0; j < blocks; ++j)
      multiply_add<T, MR, NV, 1, 0, 1>(acc, dsums + j * block_stride + Side::first * L, S * L, 1,
                                       w + j * G * L * NV * L, NV * L, L, G * L);
    store_tile<T, MR, NV>(out, acc);
  }

  // f(row, rows, column, blocks, tile) for every tile of dsums[0, n) * w, w being [gates*H, K]
  // packed by column.
  template <class Side, class F>
  void products(const T* dsums, Index n, const T* w, Index K, const F& f) const {
    alignas(64) T tile[max_rows * column_blocks * L];
    for (Index column = 0; column < K; column += column_blocks * L) {
      const Index width = smaller(column_blocks, blocks_of<T>(K - column));
      const T* panel = w + column * padded * G;
      if (patience.ends(n, padded * G, width * L)) return;
      each_row_block(0, n, [&](auto mr, Index row) {
        with_int<column_blocks>(width, [&](auto nv) {
          product_tile<Side, mr.value, nv.value>(dsums + row * S * L, scratch.capacity * S * L,
                                                 blocks, panel, tile);
        });
        f(row, Index(mr.value), column, width, tile);
      });
    }
  }

  // The path of the gradient through w_hh, added to the one that the cell gave.
  void pass_back(Index n, const T* dsums) const {
    products<HSide<Cell>>(dsums, n, tape.w_hh, d.H,
                          [&](Index row, Index n_rows, Index column, Index width, const T* tile) {
                            for (Index b = 0; b < width; ++b)
                              for (Index r = 0; r < n_rows; ++r) {
                                T* dh = scratch.dstates[0] + ((column / L + b) * d.B + row + r) * L;
                                const Native<T> v = load(tile + (r * width + b) * L);
                                store(dh, Cell::passes_h ? load(dh) + v : v);
                              }
                          });
  }

  void input_gradient(const Chunk& chunk) const {
    products<XSide<Cell>>(scratch.dsums, chunk.rows, tape.w_ih, d.I,
                          [&](Index row, Index n_rows, Index column, Index width, const T* tile) {
                            for (Index r = 0; r < n_rows; ++r)
                              for (Index b = 0; b < width; ++b)
                                store(call.dx + (chunk.row + row + r) * d.I + column + b * L,
                                      load(tile + (r * width + b) * L),
                                      used_lanes<T>(column / L + b, d.I));
                          });
  }

  // --- clipping of the gradient passed back

  void clip_rows(Index n) const {
    const T bound = T(call.step_clip.bound);
    for (Index r = 0; r < n && call.step_clip.kind == StepClip::value; ++r)
      for (Index j = 0; j < blocks; ++j) {
        T* dh = scratch.dstates[0] + (j * d.B + r) * L;
        store(dh, maximum(broadcast(-bound), minimum(broadcast(bound), load(dh))));
      }
    for (Index r = 0; r < n && call.step_clip.kind == StepClip::norm; ++r) clip_norm(r);
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
    zero<T, MR, NB * G>(acc);
    multiply_add<T, MR, NB, G, 0, G>(acc, left, 1, left_row, dsums + Side::first * L, S * L,
                                     block_stride, K);
    // Added here, not loaded as the start: the sums would wait for memory.
    BPTT_UNROLL for (int r = 0; r < MR; ++r) BPTT_UNROLL for (int v = 0; v < NB * G; ++v) {
      T* p = dw + (r * NB * G + v) * L;
      store(p, load(p) + acc[r][v]);
    }
  }

  // dw (by unit, N inputs) += left[K, N]^T dsums[row .. row + K)
  template <class Side>
  void weight_gradient(const T* left, Index N, Index row, Index K, T* dw) const {
    const Index block_stride = scratch.capacity * S * L;
    for (Index k = 0; k < K; k += sum_rows)
      for (Index j = 0; j < blocks; j += unit_blocks<Cell>) {
        const Index width = smaller(unit_blocks<Cell>, blocks - j),
                    count = smaller(sum_rows, K - k);
        if (patience.ends(count, N, width * G * L)) return;
        const T* dsums = scratch.dsums + j * block_stride + (row + k) * S * L;
        T* panel = dw + j * N * G * L;
        each_row_block(0, N, [&](auto mr, Index n) {
          with_int<unit_blocks<Cell>>(width, [&](auto nb) {
            weight_tile<Side, mr.value, nb.value>(left + k * N + n, N, dsums, block_stride, count,
                                                  panel + n * width * G * L);
          });
        });
      }
  }

  // Rows of the chunk whose previous h are neighbours in memory form one product; with equal
  // lengths that is the whole chunk, but for the rows that start from h0.
  void recurrent_weight_gradient(const Chunk& chunk) const {
    const T* left = nullptr;
    Index start = 0, n = 0;
    const auto add = [&](const T* h, Index row, Index count) {
      if (!count) return;
      if (n && row == start + n && h == left + n * d.H) {
        n += count;
        return;
      }
      if (n) weight_gradient<HSide<Cell>>(left, d.H, start, n, scratch.dw_hh);
      left = h, start = row, n = count;
    };
    for (Index t = chunk.begin; t < chunk.end; ++t) {
      const StepRows step(rows, d.T, t);
      const Index row = rows.first[t] - chunk.row;
      if (step.continuing) add(call.y + rows.first[step.previous] * d.H, row, step.continuing);
      add(tape.h0 + step.continuing * d.H, row + step.continuing, step.count - step.continuing);
    }
    if (n) weight_gradient<HSide<Cell>>(left, d.H, start, n, scratch.dw_hh);
  }

  // --- the loop

  // The chunk that the steps [0, limit) end with, or, in reverse, that [limit, T) begin with.
  Chunk next_chunk(Index limit) const {
    Chunk c{limit, limit, 0, 0};
    for (;;) {
      const Index t = rows.reverse ? c.end : c.begin - 1;
      if (t < 0 || t >= d.T || (c.begin < c.end && c.rows + rows.count[t] > scratch.capacity))
        break;
      c.rows += rows.count[t];
      (rows.reverse ? c.end : c.begin) += rows.reverse ? 1 : -1;
    }
    c.row = rows.first[c.begin];
    return c;
  }

  bool run() const {
    zero_all(scratch.dw_ih, unit_packed_size<T, Cell>(d.H, d.I));
    zero_all(scratch.dw_hh, unit_packed_size<T, Cell>(d.H, d.H));
    zero_all(scratch.db, padded * S);
    for (int q = 0; q < Cell::states; ++q)
      to_blocks(call.dstate_n[q], d.B, d.H, scratch.dstates[q]);
    for (Index limit = rows.reverse ? 0 : d.T; limit != (rows.reverse ? d.T : 0);) {
      const Chunk chunk = next_chunk(limit);
      run_chunk(chunk);
      if (patience.stopped) return false;
      limit = rows.reverse ? chunk.end : chunk.begin;
    }
    unpack_by_unit<T, Cell, XSide<Cell>>(scratch.dw_ih, d.H, d.I, call.dw_ih);
    unpack_by_unit<T, Cell, HSide<Cell>>(scratch.dw_hh, d.H, d.H, call.dw_hh);
    unpack_bias<T, Cell>(scratch.db, d.H, call.db_ih, call.db_hh);
    for (int q = 0; q < Cell::states; ++q)
      from_blocks(scratch.dstates[q], d.B, d.H, call.dstate0[q]);
    return true;
  }

  void run_chunk(const Chunk& chunk) const {
    zero_all(scratch.db_chunk, padded * S);
    for (Index n = 0; n < chunk.end - chunk.begin; ++n) {
      const Index t = rows.reverse ? chunk.begin + n : chunk.end - 1 - n;
      T* dsums = scratch.dsums + (rows.first[t] - chunk.row) * S * L;
      step_units(t, dsums);
      pass_back(rows.count[t], dsums);
      if (call.step_clip.kind != StepClip::none) clip_rows(rows.count[t]);
      if (patience.stopped) return;
    }
    weight_gradient<XSide<Cell>>(call.x + chunk.row * d.I, d.I, 0, chunk.rows, scratch.dw_ih);
    recurrent_weight_gradient(chunk);
    for (Index i = 0; i < padded * S; ++i) scratch.db[i] += scratch.db_chunk[i];
    input_gradient(chunk);
  }

  static void zero_all(T* p, Index n) {
    __builtin_memset(p, 0, static_cast<std::size_t>(n) * sizeof(T));
  }
};

template <class T, class Cell>
bool backward(const BackwardCall<T>& call) {
  return Backward<T, Cell>(call).run();
}
