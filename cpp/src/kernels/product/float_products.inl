// SPDX-License-Identifier: MIT
// The products in the precision of the results. FloatProducts is the Backend of the loops.
#pragma once
#include "kernels/product/microkernel.inl"
#include "kernels/product/pieces.inl"
#include "kernels/product/row_runs.inl"
#include "kernels/time/tape.inl"

BPTT_KERNELS_BEGIN

// The forward weights, packed.
template <class T, class Cell>
struct FloatWeights {
  T *ih, *hh;  // by unit
  T* bias;     // [block][sum][lane]
  T* params;   // [block][param][lane]
  T* second;   // by unit: of the second product
  std::size_t bytes;

  FloatWeights(void* buffer, const Dims& d) {
    Arena arena{buffer};
    ih = arena.take<T>(unit_packed_size<T, XSide<Cell>>(d.H, d.I));
    hh = arena.take<T>(unit_packed_size<T, HSide<Cell>>(d.H, d.U));
    bias = arena.take<T>(blocks_of<T>(d.H) * Cell::sums * lanes<T>);
    params = arena.take<T>(blocks_of<T>(d.H) * Cell::params * lanes<T>);
    if constexpr (Cell::second_product)
      second = arena.take<T>(unit_packed_size<T, HSide<typename Cell::SecondProduct>>(d.P, d.H));
    bytes = arena.used;
  }
  // Packs the panels that hold these blocks.
  void pack(const ForwardCall<T>& call, Range blocks, StopPoll& poll) const {
    const Dims& d = call.dims;
    if (call.packs == Packs::all)
      pack_by_unit<T, XSide<Cell>::count, unit_blocks<Cell>>(XSide<Cell>::gates, call.w_ih, d.H,
                                                             d.I, blocks, ih, poll);
    if (call.packs != Packs::none)
      pack_by_unit<T, HSide<Cell>::count, unit_blocks<Cell>>(HSide<Cell>::gates, call.w_hh, d.H,
                                                             d.U, blocks, hh, poll);
  }
  // Packs the weights of the second product, for these blocks of its results.
  void pack_second(const ForwardCall<T>& call, Range blocks, StopPoll& poll) const {
    using Second = typename Cell::SecondProduct;
    pack_by_unit<T, HSide<Second>::count, unit_blocks<Second>>(
        HSide<Second>::gates, second_weights<Cell>(call), call.dims.P, call.dims.H, blocks, second,
        poll);
  }
};

// K inputs of rows that are `row` apart, and the panels of weights that multiply them; K = 0: no
// product.
template <class T>
struct Operands {
  const T* rows;
  Index row;
  const T* w;
  Index K;
  Ahead ahead = {reinterpret_cast<const char*>(w), 0};  // prefetched meanwhile

  // Inputs [begin, end) of these, with `step` weights each, from row `first` on, which begins the
  // n-th row block.
  Operands part(Index first, Index begin, Index end, Index step, const NextPanel& next,
                Index n) const {
    begin = larger(begin, 0), end = larger(smaller(end, K), begin);
    return {rows + first * row + begin, row, w + begin * step, end - begin,
            next.during(n, begin, end - begin)};
  }
};

// The sums of MR rows and `Panels` panels of NB blocks, [row][block][sum][lane], rows `row_size`
// apart. They start from `start`, in the same order with rows `start_row` apart, which may be
// `sums`.
template <class T, class Sums, int MR, int Panels, int NB>
__attribute__((noinline)) void forward_tile(const Operands<T>& x, const Operands<T>& h,
                                            const T* start, Index start_row, T* sums,
                                            Index row_size) {
  constexpr int G = Sums::gates, Gh = Sums::h_gates, S = Sums::sums, V = Panels * NB * S;
  constexpr Index step = NB * G * lanes<T>, h_step = NB * Gh * lanes<T>;
  Tile<T, MR, V> acc;
  BPTT_UNROLL for (int r = 0; r < MR; ++r) BPTT_UNROLL for (int v = 0; v < V; ++v) acc[r][v] =
      load(start + r * start_row + v * lanes<T>);
  Ahead x_ahead = x.ahead, h_ahead = h.ahead;
  multiply_add_ahead<T, MR, Panels, NB, S, Sums::x_first, G>(acc, x.rows, x.row, 0, 1, x.w,
                                                             x.K * step, step, x.K, x_ahead);
  multiply_add_ahead<T, MR, Panels, NB, S, Sums::h_first, Gh>(acc, h.rows, h.row, 0, 1, h.w,
                                                              h.K * h_step, h_step, h.K, h_ahead);
  BPTT_UNROLL for (int r = 0; r < MR; ++r) BPTT_UNROLL for (int v = 0; v < V; ++v)
      store(sums + r * row_size + v * lanes<T>, acc[r][v]);
}

// The tiles of all cells with the same sums, in panels of NB blocks. A row of sums has one window,
// or two where the products are normalised separately, each a tile of its own:
// [row][window][block][sum][lane].
template <class T, class Sums, int NB, int windows>
struct ForwardTiles {
  // Computes the sums of n rows, at most max_rows, and `width` blocks.
  template <class N>
  BPTT_SHARED static void add(N n, Index width, const Operands<T>& x, const Operands<T>& h,
                              const T* start, Index start_row, T* sums, Index row_size) {
    static_int<max_rows>(n, [&](auto mr) BPTT_INLINED {
      if constexpr (windows == 1) {
        window<mr.value>(width, x, h, start, start_row, sums, row_size);
      } else {
        window<mr.value>(width, x, {h.rows, 0, h.w, 0}, start, start_row, sums, row_size);
        window<mr.value>(width, {x.rows, 0, x.w, 0}, h, start + start_row / 2, start_row,
                         sums + row_size / 2, row_size);
      }
    });
  }
  template <int MR>
  BPTT_INLINE static void window(Index width, const Operands<T>& x, const Operands<T>& h,
                                 const T* start, Index start_row, T* sums, Index row_size) {
    if constexpr (MR <= few_rows) {
      if (width == 2 * NB)
        return forward_tile<T, Sums, MR, 2, NB>(x, h, start, start_row, sums, row_size);
    }
    static_int<NB>(width, [&](auto nb) BPTT_INLINED {
      forward_tile<T, Sums, MR, 1, nb.value>(x, h, start, start_row, sums, row_size);
    });
  }

  // Adds to the sums of n rows their products with weights [gates*H, K] that are not packed before:
  // each piece of a panel is packed, used and dropped, in the first-level cache.
  template <int operand>
  __attribute__((noinline)) static void add_unpacked(const int* gates, const T* rows, Index n,
                                                     const T* w, Index H, Index K, Index j,
                                                     Index width, T* sums, Index row_size) {
    constexpr int G = operand == 0 ? Sums::gates : Sums::h_gates;
    constexpr Index most = 128;
    alignas(64) T piece[most * NB * G * lanes<T>];
    for (Index k = 0; k < K; k += most) {
      const Index end = smaller(k + most, K);
      pack_panel<T, G>(gates, w, H, K, j, width, k, end, piece);
      for_each_row_block(0, n, [&](auto some_rows, Index row) {
        const Operands<T> some{rows + row * K + k, K, piece, end - k}, nothing{rows, 0, piece, 0};
        T* out = sums + row * row_size;
        const bool x = operand == 0;
        add(some_rows, width, x ? some : nothing, x ? nothing : some, out, row_size, out, row_size);
      });
    }
  }
};

template <class T, class Cell>
struct FloatForward {
  static constexpr int G = Cell::gates, Gh = HSide<Cell>::count, S = Cell::sums,
                       V = tile_sums<Cell>, windows = S / V;
  static constexpr Index L = lanes<T>;
  using Tiles = ForwardTiles<T, SumsOf<Cell>, unit_blocks<Cell>, windows>;
  const ForwardCall<T>& call;
  const Dims& d;
  const FloatWeights<T, Cell>& weights;

  static std::size_t scratch_bytes(const Dims&) { return 0; }
  FloatForward(const ForwardCall<T>& c, const FloatWeights<T, Cell>& w, void*)
      : call(c), d(c.dims), weights(w) {}

  // Called before the products of these rows of a step.
  void prepare(const ForwardStep<T>&) const {}

  // The number of blocks to compute at once from block j on: one panel, or two for few rows, so
  // that enough sums do not depend on each other.
  Index panel_width(Index j, Index end, Index n_rows) const {
    const Index width = unit_blocks<Cell>;
    const bool two = n_rows <= few_rows && j + 2 * width <= end && call.packs != Packs::none;
    return two ? 2 * width : smaller(width, end - j);
  }

  Operands<T> x_operands(const T* x, Index j) const {
    return {x, d.I, weights.ih + j * d.I * G * L, d.I};
  }
  Operands<T> h_operands(const T* h, Index j) const {
    return {h, d.U, weights.hh + j * d.U * Gh * L, d.U};
  }

  void start_from_bias(Index n, Index j, Index width, T* sums, Index row_size) const {
    for (Index i = 0; i < n * windows; ++i)
      __builtin_memcpy(sums + i * row_size / windows, weights.bias + j * V * L,
                       static_cast<std::size_t>(width * V * L) * sizeof(T));
  }

  // Calls f(rows, sums) for the rows of a step, some at a time, and `width` blocks from block j on;
  // sums is [row][block][sum][lane]. Calls before(rows) before their products.
  template <class Before, class F>
  void for_each_tile(const ForwardStep<T>& step, Index j, Index width, const Before& before,
                     const F& f) const {
    alignas(64) T sums[piece_rows * unit_blocks<Cell> * S * L];
    const Index all = blocks_of<T>(d.H) * S * L, row_size = width * S * L;
    if (call.packs == Packs::none) {
      const Index row = step.rows.begin, n = step.rows.end - row;
      start_from_bias(n, j, width, sums, row_size);
      Tiles::template add_unpacked<0>(XSide<Cell>::gates, step.x + row * d.I, n, call.w_ih, d.H,
                                      d.I, j, width, sums, row_size);
      Tiles::template add_unpacked<1>(HSide<Cell>::gates, step.operand + row * d.U, n, call.w_hh,
                                      d.H, d.U, j, width, sums, row_size);
      return f(step.rows, sums);
    }
    Operands<T> x = x_operands(step.x, j);
    if (step.sums) x.K = 0;
    const Operands<T> h = h_operands(step.operand, j);
    const Index x_step = width * G * L, h_step = width * Gh * L, K = x.K + h.K,
                n_rows = step.rows.end - step.rows.begin,
                size = piece_inputs(d.caches, K, x_step * Index(sizeof(T)), n_rows);
    const NextPanel next_x = next_panel(x, x_step, n_rows), next_h = next_panel(h, h_step, n_rows);
    const auto piece = [&](Range some, Index k, Index end) {
      Index number = 0;
      for_each_row_block(some.begin, some.end, [&](auto n, Index row) {
        const bool whole = size == K, first = k == 0, last = end == K;
        if (last) before(Range{row, row + n});
        T* out = whole ? sums : sums + (row - some.begin) * row_size;
        const T* start = !first      ? out
                         : step.sums ? step.sums + row * all + j * V * L
                                     : weights.bias + j * V * L;
        Tiles::add(n, width, x.part(row, k, end, x_step, next_x, number),
                   h.part(row, k - x.K, end - x.K, h_step, next_h, number), start,
                   !first      ? row_size
                   : step.sums ? all
                               : 0,
                   out, row_size);
        ++number;
        if (last) f(Range{row, row + n}, out);
      });
    };
    for_each_piece(step.rows, K, size, piece);
  }
  NextPanel next_panel(const Operands<T>& a, Index step, Index n_rows) const {
    const Index all = blocks_of<T>(d.H) * (d.I * G + d.U * Gh) * L;
    return {d.caches, all * Index(sizeof(T)), a.w + a.K * step, step * Index(sizeof(T)), n_rows};
  }

  // The same for the second product, whose weights are all packed; sums is [row][block][lane].
  template <class F>
  void for_each_second_tile(const ForwardStep<T>& step, Index j, Index width, const F& f) const {
    using Second = typename Cell::SecondProduct;
    alignas(64) T sums[max_rows * unit_blocks<Second> * L];
    alignas(64) const T zeros[unit_blocks<Second> * L] = {};
    const T* w = weights.second + j * d.H * L;
    for_each_row_block(step.rows.begin, step.rows.end, [&](auto n, Index row) {
      const Operands<T> nothing{step.second_operand, 0, w, 0},
          some{step.second_operand + row * d.H, d.H, w, d.H};
      ForwardTiles<T, SumsOf<Second>, unit_blocks<Second>, 1>::add(n, width, nothing, some, zeros,
                                                                   0, sums, width * L);
      f(Range{row, row + n}, sums);
    });
  }

  // Called before the projection of n rows; h may be null.
  void prepare_projection(const T*, const T*, Index) const {}

  // Computes the sums of n rows from x and, if it is not null, h, for `width` blocks from block j
  // on; out is [row][all blocks][sum][lane].
  void project(const T* x, const T* h, Index n, Index j, Index width, T* out) const {
    const Index all = blocks_of<T>(d.H) * S * L;
    if (call.packs == Packs::recurrent) {
      T* sums = out + j * V * L;
      start_from_bias(n, j, width, sums, all);
      return Tiles::template add_unpacked<0>(XSide<Cell>::gates, x, n, call.w_ih, d.H, d.I, j,
                                             width, sums, all);
    }
    for_each_row_block(0, n, [&](auto rows, Index row) {
      Operands<T> with_h = h_operands(h ? h + row * d.U : nullptr, j);
      if (!h) with_h.K = 0;
      Tiles::add(rows, width, x_operands(x + row * d.I, j), with_h, weights.bias + j * V * L, 0,
                 out + row * all + j * V * L, all);
    });
  }
};

// out[MR][Panels*NV][lane] = gradients of G sums out of S, times `Panels` panels of NV column
// blocks. S is 0 where cells of many sums share a tile: `dsums_row` is S * lanes at run time. A
// narrow panel is summed in several chains, so that enough sums do not depend on each other.
template <class T, int G, int S, int MR, int Panels, int NV>
__attribute__((noinline)) void product_tile(const T* dsums, Index dsums_row, Index block_stride,
                                            Index blocks, const T* w, bool more, T* out,
                                            Ahead ahead) {
  constexpr Index L = lanes<T>;
  if constexpr (S > 0) dsums_row = S * L;
  constexpr int chains = Panels > 1 || NV > 2 ? 1 : NV == 1 && G * L % 4 == 0 ? 4 : 2;
  constexpr Index row = NV * L;
  const Index panel = chains > 1 ? row : blocks * G * L * row;
  Tile<T, MR, Panels * chains * NV> acc;
  if (chains == 1 && more) {
    BPTT_UNROLL for (int r = 0; r < MR; ++r) BPTT_UNROLL for (int v = 0; v < Panels * NV; ++v)
        acc[r][v] = load(out + (r * Panels * NV + v) * L);
  } else {
    clear<T, MR, Panels * chains * NV>(acc);
  }
  for (Index j = 0; j < blocks; ++j)
    multiply_add_ahead<T, MR, Panels * chains, NV, 1, 0, 1>(
        acc, dsums + j * block_stride, dsums_row, chains > 1 ? 1 : 0, chains, w + j * G * L * row,
        panel, chains * row, G * L / chains, ahead);
  BPTT_UNROLL for (int r = 0; r < MR; ++r) BPTT_UNROLL for (int v = 0; v < Panels * NV; ++v) {
    Native<T> sum = acc[r][v];
    if constexpr (chains == 2) sum += acc[r][NV + v];
    if constexpr (chains == 4)
      sum = (sum + acc[r][NV + v]) + (acc[r][2 * NV + v] + acc[r][3 * NV + v]);
    store(out + (r * Panels * NV + v) * L, sum);
  }
}

// The same for n rows, at most max_rows, and `width` column blocks of one panel or two.
template <class T, int G, int S, class N>
BPTT_SHARED void product_of_rows(N n, Index width, const T* dsums, Index dsums_row,
                                 Index block_stride, Index blocks, const T* w, bool more, T* out,
                                 Ahead ahead) {
  static_int<max_rows>(n, [&](auto mr) BPTT_INLINED {
    if constexpr (mr.value <= few_rows) {
      if (width > column_blocks)
        return product_tile<T, G, S, mr.value, 2, column_blocks>(dsums, dsums_row, block_stride,
                                                                 blocks, w, more, out, ahead);
    }
    static_int<column_blocks>(width, [&](auto nv) BPTT_INLINED {
      product_tile<T, G, S, mr.value, 1, nv.value>(dsums, dsums_row, block_stride, blocks, w, more,
                                                   out, ahead);
    });
  });
}

// dw[r, ...] += sum over the rows of all runs of left[row, n + r] * dsums[row, ...]
template <class T, int G, int S, int MR, int NB>
__attribute__((noinline)) void weights_tile(const RowRuns<T>& runs, Index left_row, Index n,
                                            const T* dsums, Index dsums_row, Index block_stride,
                                            T* dw) {
  constexpr Index L = lanes<T>;
  if constexpr (S > 0) dsums_row = S * L;
  prefetch_for_writing(dw, sizeof(T) * MR * NB * G * L);
  Tile<T, MR, NB * G> acc;
  clear<T, MR, NB * G>(acc);
  for (int i = 0; i < runs.count; ++i)
    multiply_add<T, MR, NB, 1, G, 0, G>(acc, runs.run[i].left + n, 1, 0, left_row,
                                        dsums + runs.run[i].row * dsums_row, block_stride,
                                        dsums_row, runs.run[i].rows, NothingAhead());
  // Added at the end, not loaded as the start, where the sums would wait for memory.
  BPTT_UNROLL for (int r = 0; r < MR; ++r) BPTT_UNROLL for (int v = 0; v < NB * G; ++v) {
    T* p = dw + (r * NB * G + v) * L;
    store(p, load(p) + acc[r][v]);
  }
}

// The products of the backward pass, for cells with any number of sums.
template <class T>
struct FloatGradients {
  static constexpr Index L = lanes<T>;
  const Rows& rows;
  const Caches caches;
  const T* dsums;         // [block][chunk_rows][sum][lane]
  const Index dsums_row;  // elements of [sum][lane]
  T* copies[2];           // of x and of h, in this rank's group: see copy_rows
  const Index blocks;
  StopPoll& poll;

  static Index copy_size(Index N) {
    return copied(N) ? ceil_div(N, cached_inputs) * sum_rows * copy_row : 0;
  }
  // For one group.
  static Index copies_size(const Dims& d) { return copy_size(d.I) + copy_size(d.U); }
  static std::size_t scratch_bytes(const Dims& d, const Rows& r) {
    return static_cast<std::size_t>(r.groups * copies_size(d)) * sizeof(T);
  }
  FloatGradients(const Dims& d, const Rows& r, const T* sums, Index sums_row, void* scratch,
                 int group, StopPoll& p)
      : rows(r),
        caches(d.caches),
        dsums(sums),
        dsums_row(sums_row),
        copies{static_cast<T*>(scratch) + group * copies_size(d),
               static_cast<T*>(scratch) + group * copies_size(d) + copy_size(d.I)},
        blocks(blocks_of<T>(d.H)),
        poll(p) {}

  // Inputs of the left operand that are copied together, and, as long as all their rows stay in the
  // second cache, multiplied by one panel after the other.
  static constexpr Index cached_inputs = 2048 / Index(sizeof(T));
  Index inputs_at_once(Index n_rows) const {
    const Index most = caches.second / 4 / (n_rows * Index(sizeof(T)));
    return larger(smaller(most, cached_inputs) / max_rows, 1) * max_rows;
  }
  // A tile of dw reads columns of the left operand. Rows a multiple of 2 KiB apart share a few sets
  // of a cache, and each long row needs a page of its own: such rows are copied first, to [group of
  // cached_inputs][row][input].
  static bool copied(Index N) { return N * Index(sizeof(T)) % 2048 == 0 || N > cached_inputs; }
  static constexpr Index copy_row = cached_inputs + 64 / Index(sizeof(T));

  // Copies inputs n of the rows of all runs; n lies within one group of cached_inputs. Ranks that
  // share the inputs share the copy too.
  RowRuns<T> copy_rows(int operand, const RowRuns<T>& runs, Index N, Range n) const {
    RowRuns<T> result = runs;
    T* to = copies[operand] + n.begin / cached_inputs * sum_rows * copy_row;
    for (int i = 0; i < runs.count; ++i) {
      result.run[i].left = to;
      for (Index r = 0; r < runs.run[i].rows; ++r, to += copy_row)
        __builtin_memcpy(to + n.begin % cached_inputs, runs.run[i].left + r * N + n.begin,
                         static_cast<std::size_t>(n.end - n.begin) * sizeof(T));
    }
    return result;
  }

  // See FloatBackward::for_each_tile; of the G sums from number `sum` on.
  template <int G, int S, class F>
  void for_each_product(Index sum, Range r, const T* w, Index K, Range c, const F& f) const {
    constexpr Index wide = 2 * column_blocks;
    alignas(64) T tile[larger(max_rows * wide, piece_rows * column_blocks) * L];
    const Index n_rows = r.end - r.begin, block_stride = rows.chunk_rows * dsums_row;
    const bool few = n_rows <= few_rows;
    for (Index j = c.begin, width; j < c.end; j += width) {
      const Index full = K / (column_blocks * L) * column_blocks;
      width = few && j + wide <= smaller(full, c.end) ? wide : smaller(column_blocks, c.end - j);
      const Index row_size = width * L;
      const T* panel = w + j * L * blocks * L * G;
      if (poll.stops(n_rows, blocks * L * G, row_size)) return;
      const Index input_bytes = row_size * Index(sizeof(T)), block_inputs = G * L;
      // In two chains each sum is made of several.
      const Index size = width > 2 ? piece_blocks(block_inputs, input_bytes, n_rows) : blocks;
      const auto piece = [&](Range some, Index b, Index end) {
        const T* weights = panel + b * block_inputs * row_size;
        const NextPanel next(caches, blocks * block_inputs * K * Index(sizeof(T)),
                             weights + (end - b) * block_inputs * row_size, input_bytes,
                             some.end - some.begin);
        Index number = 0;
        for_each_row_block(some.begin, some.end, [&](auto n, Index row) {
          T* out = size == blocks ? tile : tile + (row - some.begin) * row_size;
          product_of_rows<T, G, S>(n, width, dsums + b * block_stride + row * dsums_row + sum * L,
                                   dsums_row, block_stride, end - b, weights, b > 0, out,
                                   next.during(number++, 0, (end - b) * block_inputs));
          if (end == blocks) f(row, n, j * L, width, out);
        });
      };
      for_each_piece(r, blocks, size, piece);
    }
  }
  // The number of blocks of dsums in a piece. Where their rows do not stay in the second cache, the
  // weights of a piece fill the first one only: the rows are then so few streams that the hardware
  // prefetches them.
  Index piece_blocks(Index inputs, Index input_bytes, Index n_rows) const {
    const Index few = larger(caches.first / (inputs * input_bytes), 1);
    const bool streams = n_rows * blocks * inputs * Index(sizeof(T)) > caches.second / 2;
    if (!streams || n_rows <= max_rows || blocks <= few)
      return piece_inputs(caches, blocks, inputs * input_bytes, n_rows);
    return ceil_div(blocks, ceil_div(blocks, few));
  }

  // Adds to inputs n of dw (by unit, N inputs, panels of NB blocks) the gradients from the G sums
  // from number `sum` on.
  template <int G, int S, int NB>
  BPTT_SHARED void add(int operand, Index sum, const RowRuns<T>& runs, Index N, Range n,
                       T* dw) const {
    if (!copied(N)) return add_inputs<G, S, NB>(sum, runs, N, n.begin, N, n, dw);
    for (Range some = n; some.begin < n.end; some.begin = some.end) {
      const Index first = some.begin % cached_inputs;
      some.end =
          smaller(smaller(cached_inputs - first, inputs_at_once(runs.rows)) + some.begin, n.end);
      add_inputs<G, S, NB>(sum, copy_rows(operand, runs, N, some), copy_row, first, N, some, dw);
    }
  }
  // Inputs n, the first of which is number `first` of the left operand; some rows at a time, whose
  // dsums stay in the first cache.
  template <int G, int S, int NB>
  void add_inputs(Index sum, const RowRuns<T>& runs, Index left_row, Index first, Index N, Range n,
                  T* dw) const {
    const Index block_stride = rows.chunk_rows * dsums_row;
    for (Index j = 0; j < blocks; j += NB) {
      const Index width = smaller(NB, blocks - j);
      if (poll.stops(runs.rows, n.end - n.begin, width * G * L)) return;
      T* panel = dw + j * N * G * L;
      for (Index row = 0; row < runs.rows; row += cached_rows) {
        const RowRuns<T> some = runs.part(row, smaller(row + cached_rows, runs.rows), left_row);
        for_each_row_block(n.begin, n.end, [&](auto inputs, Index i) {
          static_int<max_rows>(inputs, [&](auto mr) BPTT_INLINED {
            static_int<NB>(width, [&](auto nb) BPTT_INLINED {
              weights_tile<T, G, S, mr.value, nb.value>(
                  some, left_row, first + i - n.begin, dsums + j * block_stride + sum * L,
                  dsums_row, block_stride, panel + i * width * G * L);
            });
          });
        });
      }
    }
  }
};

template <class T, class Cell>
struct FloatBackward : FloatGradients<T> {
  static constexpr int S = BPTT_MANY_CELLS ? 0 : GradientsOf<Cell>::products;  // see product_tile

  FloatBackward(const Dims& d, const Rows& r, const T* sums, void* scratch, int group, StopPoll& p)
      : FloatGradients<T>(d, r, sums, GradientsOf<Cell>::products * lanes<T>, scratch, group, p) {}

  // After rows r of dsums were written.
  void prepare(Range) const {}

  // Calls f(row, rows, column, blocks, tile) for every tile of rows r of dsums times column blocks
  // c of w, which is [gates*H, K] packed by column.
  template <class Side, class F>
  void for_each_tile(Range r, const T* w, Index K, Range c, const F& f) const {
    this->template for_each_product<Side::count, S>(Side::first, r, w, K, c, f);
  }

  template <class Side>
  void add_weights(const RowRuns<T>& runs, Index N, Range n, T* dw) const {
    this->template add<Side::count, S, unit_blocks<Cell>>(Side::operand, Side::first, runs, N, n,
                                                          dw);
  }
};

template <class T_, class Cell_>
struct FloatProducts {
  using T = T_;
  using Cell = Cell_;
  using Weights = FloatWeights<T, Cell>;
  using Forward = FloatForward<T, Cell>;
  using Backward = FloatBackward<T, Cell>;
  template <class Other>
  using BackwardOf = FloatBackward<T, Other>;
  using Column = T;  // element of the backward weights
  template <class Side>
  static Index column_size(Index H, Index K) {
    return column_packed_size<T, Side>(H, K);
  }
  static Index padded_inputs(Index K) { return K; }  // of a weight gradient

  template <class Tape>
  static void pack_columns(const ForwardCall<T>& call, const Tape& tape, Range xs, Range hs,
                           StopPoll& poll) {
    const Dims& d = call.dims;
    pack_by_column<T, XSide<Cell>::count>(XSide<Cell>::gates, call.w_ih, d.H, d.I, xs, tape.w_ih,
                                          poll);
    if constexpr (!Cell::truncated)
      pack_by_column<T, HSide<Cell>::count>(HSide<Cell>::gates, call.w_hh, d.H, d.P, hs, tape.w_hh,
                                            poll);
  }
};

BPTT_KERNELS_END
