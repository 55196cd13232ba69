// SPDX-License-Identifier: MIT
// The products in the precision of the results. FloatProducts is the Backend of the loops.
#pragma once
#include "kernels/product/float_gradients.inl"
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
  alignas(64) mutable T tile[piece_rows * unit_blocks<Cell> * S * L];

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

  // Calls f(rows, sums, row_size) for the rows of a step, some at a time, and `width` blocks from
  // block j on; sums is [row][block][sum][lane], rows row_size apart. Calls before(rows) before
  // their products.
  template <class Before, class F>
  BPTT_SHARED void for_each_tile(const ForwardStep<T>& step, Index j, Index width,
                                 const Before& before, const F& f) const {
    const Index all = blocks_of<T>(d.H) * S * L, row_size = width * S * L;
    const bool unpacked = call.packs == Packs::none;
    const Index most = step.whole ? step.count : unpacked ? unpacked_rows : max_rows;
    const PanelProduct product(*this, step, j, width);
    for_each_piece(
        step.rows, product.K, product.size, [&](Range some, Index k, Index end) BPTT_INLINED {
          Index number = 0;
          for_each_range(some.begin, some.end, most, [&](Range r) BPTT_INLINED {
            const T* projected = step.sums ? step.sums + r.begin * all + j * V * L : nullptr;
            if (step.whole) return f(r, projected, all);
            const bool last = end == product.K;
            T* sums = product.whole() ? tile : tile + (r.begin - some.begin) * row_size;
            if (last) before(r);
            if (unpacked)
              add_unpacked(step, r, j, width);
            else
              Tiles::add(r.end - r.begin, width, product.of_x(r.begin, k, end, number),
                         product.of_h(r.begin, k, end, number),
                         k           ? sums
                         : projected ? projected
                                     : weights.bias + j * V * L,
                         k           ? row_size
                         : projected ? all
                                     : 0,
                         sums, row_size);
            ++number;
            if (last) f(r, static_cast<const T*>(sums), row_size);
          });
        });
  }
  // The products of the rows of a step with one panel, in pieces of `size` inputs, those of x
  // first.
  struct PanelProduct {
    const Operands<T> x, h;
    const Index x_step, h_step, K, size;
    const NextPanel next_x, next_h;

    BPTT_INLINE PanelProduct(const FloatForward& of, const ForwardStep<T>& step, Index j,
                             Index width)
        : x(with_inputs(of.x_operands(step.x, j), step.sums ? 0 : of.d.I)),
          h(of.h_operands(step.operand, j)),
          x_step(width * G * L),
          h_step(width * Gh * L),
          K(x.K + h.K),
          size(step.whole || of.call.packs == Packs::none
                   ? K
                   : piece_inputs(of.d.caches, K, x_step * Index(sizeof(T)), rows_of(step))),
          next_x(of.next_panel(x, x_step, rows_of(step))),
          next_h(of.next_panel(h, h_step, rows_of(step))) {}
    bool whole() const { return size == K; }
    BPTT_INLINE Operands<T> of_x(Index row, Index k, Index end, Index number) const {
      return x.part(row, k, end, x_step, next_x, number);
    }
    BPTT_INLINE Operands<T> of_h(Index row, Index k, Index end, Index number) const {
      return h.part(row, k - x.K, end - x.K, h_step, next_h, number);
    }

   private:
    static Index rows_of(const ForwardStep<T>& step) { return step.rows.end - step.rows.begin; }
    static Operands<T> with_inputs(Operands<T> operands, Index K) {
      operands.K = K;
      return operands;
    }
  };
  NextPanel next_panel(const Operands<T>& a, Index step, Index n_rows) const {
    const Index all = blocks_of<T>(d.H) * (d.I * G + d.U * Gh) * L;
    return {d.caches, all * Index(sizeof(T)), a.w + a.K * step, step * Index(sizeof(T)), n_rows};
  }
  void add_unpacked(const ForwardStep<T>& step, Range r, Index j, Index width) const {
    const Index n = r.end - r.begin, row_size = width * S * L;
    start_from_bias(n, j, width, tile, row_size);
    Tiles::template add_unpacked<0>(XSide<Cell>::gates, step.x + r.begin * d.I, n, call.w_ih, d.H,
                                    d.I, j, width, tile, row_size);
    Tiles::template add_unpacked<1>(HSide<Cell>::gates, step.operand + r.begin * d.U, n, call.w_hh,
                                    d.H, d.U, j, width, tile, row_size);
  }

  // May row_steps() take this step, and those that are like it?
  bool takes_row(const ForwardStep<T>& step, const Team& team) const {
    return d.B == 1 && team.size == 1 && !step.whole && call.packs != Packs::none;
  }

  // for_each_tile for the second product, whose weights are all packed: f(rows, sums), where sums
  // is [row][block][lane].
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

  // Does it pay to project the inputs of narrow steps? Not where the weights of x stay in the first
  // cache beside the others.
  bool projects() const {
    constexpr Index small = 8192;  // bytes
    return call.packs == Packs::recurrent ||
           unit_packed_size<T, XSide<Cell>>(d.H, d.I) * Index(sizeof(T)) > small;
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

template <class T_, class Cell_>
struct FloatProducts {
  using T = T_;
  using Cell = Cell_;
  using Weights = FloatWeights<T, Cell>;
  using Forward = FloatForward<T, Cell>;
  using Backward = FloatBackward<T, Cell>;
  template <class Other>
  using BackwardOf = FloatBackward<T, Other>;
  using Column = T;                                     // element of the backward weights
  static constexpr bool takes_rows = !BPTT_MANY_CELLS;  // see row_steps.inl
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
