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

  // Inputs [begin, end) of these, with `step` weights each.
  BPTT_INLINE Operands part(Index begin, Index end, Index step) const {
    begin = smaller(larger(begin, 0), K), end = larger(smaller(end, K), begin);
    return {rows + begin, row, w + begin * step, end - begin};
  }
  // From row `first` on, which begins the n-th row block.
  BPTT_INLINE Operands from(Index first, const Next<T>& next, Index n) const {
    return {rows + first * row, row, w, K, next.during(n, K)};
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

// The products of the forward pass, for all cells with the same sums.
template <class T, class Sums, int NB, int windows>
struct UnitProducts {
  static constexpr int G = Sums::gates, Gh = Sums::h_gates, V = Sums::sums, S = V * windows;
  static constexpr Index L = lanes<T>;
  using Tiles = ForwardTiles<T, Sums, NB, windows>;
  const ForwardCall<T>& call;
  const Dims& d;
  const T *const ih, *const hh, *const bias;  // see FloatWeights
  const int *const x_gates, *const h_gates;
  alignas(64) mutable T tile[piece_sums * NB * S * L];

  UnitProducts(const ForwardCall<T>& c, const T* w_ih, const T* w_hh, const T* b, const int* of_x,
               const int* of_h)
      : call(c), d(c.dims), ih(w_ih), hh(w_hh), bias(b), x_gates(of_x), h_gates(of_h) {}

  // Called before the products of these rows of a step.
  void prepare(const ForwardStep<T>&) const {}

  bool unpacked() const { return call.packs == Packs::none; }
  Index row_of_sums() const { return blocks_of<T>(d.H) * S * L; }
  Cut cut(Index K, Index n_rows) const {
    const Index element = Index(sizeof(T));
    return unpacked() ? Cut{K, 1} : cut_product(d.caches, K, NB * G * L * element, n_rows, element);
  }

  // The number of blocks to compute at once from block j on: a group of panels, or two panels for
  // few rows, so that enough sums do not depend on each other.
  Index group_width(Index j, Index end, Index n_rows) const {
    const bool two = n_rows <= few_rows && j + 2 * NB <= end && !unpacked();
    return two ? 2 * NB : smaller(cut(d.I + d.U, n_rows).panels * NB, end - j);
  }

  // Inputs [k, end) of one panel and of the rows of a step, counted over x, if its part is not
  // projected, and h.
  struct Piece {
    Operands<T> x, h;
  };
  BPTT_INLINE Piece piece(const ForwardStep<T>& step, Index j, Index width, Index k,
                          Index end) const {
    const Index of_x = step.sums ? 0 : d.I;
    const Operands<T> x{step.x, d.I, ih + j * d.I * G * L, of_x},
        h{step.operand, d.U, hh + j * d.U * Gh * L, d.U};
    return {x.part(k, end, width * G * L), h.part(k - of_x, end - of_x, width * Gh * L)};
  }

  // Calls f(j, width, rows, sums, row_size) for the rows of a step, some at a time, and each panel
  // of a group of blocks, of `width` blocks from block j on; sums is [row][block][sum][lane], rows
  // row_size apart. Calls before(j, width, rows) before their last products.
  template <class Before, class F>
  BPTT_SHARED void for_each_tile(const ForwardStep<T>& step, Range group, const Before& before,
                                 const F& f) const {
    const Index K = (step.sums ? 0 : d.I) + d.U, n_rows = step.rows.end - step.rows.begin,
                all = row_of_sums(), most = n_rows <= few_rows ? 2 * NB : NB;
    if (step.whole)
      return f(group.begin, group.end - group.begin, step.rows,
               step.sums + step.rows.begin * all + group.begin * V * L, all);
    const auto multiply = [&](Range some, Index k, Index end) BPTT_INLINED {
      T* sums = tile;
      for (Index j = group.begin, width; j < group.end; j += width) {
        width = group.end - j >= most ? most : smaller(NB, group.end - j);
        const Index row_size = width * S * L;
        const bool more = end < K;
        const Place place = place_after(group, j + width, k, end, K);
        const Piece now = piece(step, j, width, k, end),
                    then = piece(step, place.j, width, place.k, K);
        const Next<T> next_x(then.x.w, width * G * L, some.end - some.begin),
            next_h(then.h.w, width * Gh * L, some.end - some.begin);
        Index number = 0;
        for_each_range(
            some.begin, some.end, unpacked() ? unpacked_rows : max_rows, [&](Range r) BPTT_INLINED {
              const T* projected = step.sums ? step.sums + r.begin * all + j * V * L : nullptr;
              T* out = sums + (k || more ? r.begin - some.begin : 0) * row_size;
              if (!more) before(j, width, r);
              if (unpacked())
                add_unpacked(step, r, j, width);
              else
                Tiles::add(r.end - r.begin, width, now.x.from(r.begin, next_x, number),
                           now.h.from(r.begin, next_h, number),
                           k           ? out
                           : projected ? projected
                                       : bias + j * V * L,
                           k           ? row_size
                           : projected ? all
                                       : 0,
                           out, row_size);
              ++number;
              if (!more) f(j, width, r, static_cast<const T*>(out), row_size);
            });
        if (k || more) sums += (some.end - some.begin) * row_size;
      }
    };
    for_each_piece(step.rows, K, cut(K, n_rows).inputs, multiply);
  }
  void add_unpacked(const ForwardStep<T>& step, Range r, Index j, Index width) const {
    const Index n = r.end - r.begin, row_size = width * S * L;
    start_from_bias(n, j, width, tile, row_size);
    Tiles::template add_unpacked<0>(x_gates, step.x + r.begin * d.I, n, call.w_ih, d.H, d.I, j,
                                    width, tile, row_size);
    Tiles::template add_unpacked<1>(h_gates, step.operand + r.begin * d.U, n, call.w_hh, d.H, d.U,
                                    j, width, tile, row_size);
  }
  void start_from_bias(Index n, Index j, Index width, T* sums, Index row_size) const {
    for (Index i = 0; i < n * windows; ++i)
      __builtin_memcpy(sums + i * row_size / windows, bias + j * V * L,
                       static_cast<std::size_t>(width * V * L) * sizeof(T));
  }

  // Does it pay to project the inputs of narrow steps? Not where the weights of x stay in the first
  // cache beside the others.
  bool projects() const {
    constexpr Index small = 8192;  // bytes
    return call.packs == Packs::recurrent ||
           blocks_of<T>(d.H) * d.I * G * L * Index(sizeof(T)) > small;
  }
  // Called before the projection of n rows; h may be null.
  void prepare_projection(const T*, const T*, Index) const {}

  // Computes the sums of n rows from x and, if it is not null, h, for `width` blocks from block j
  // on; out is [row][all blocks][sum][lane].
  BPTT_SHARED void project(const T* x, const T* h, Index n, Index j, Index width, T* out) const {
    const Index all = row_of_sums();
    T* sums = out + j * V * L;
    if (call.packs == Packs::recurrent) {
      start_from_bias(n, j, width, sums, all);
      return Tiles::template add_unpacked<0>(x_gates, x, n, call.w_ih, d.H, d.I, j, width, sums,
                                             all);
    }
    for_each_row_block(0, n, [&](auto rows, Index row) {
      const Operands<T> of_x{x + row * d.I, d.I, ih + j * d.I * G * L, d.I},
          of_h{h + row * d.U, d.U, hh + j * d.U * Gh * L, h ? d.U : 0};
      Tiles::add(rows, width, of_x, of_h, bias + j * V * L, 0, sums + row * all, all);
    });
  }
};

template <class T, class Cell>
struct FloatForward
    : UnitProducts<T, SumsOf<Cell>, unit_blocks<Cell>, Cell::sums / tile_sums<Cell>> {
  using Base = UnitProducts<T, SumsOf<Cell>, unit_blocks<Cell>, Cell::sums / tile_sums<Cell>>;
  using Base::call, Base::d, Base::L;
  const FloatWeights<T, Cell>& weights;

  static std::size_t scratch_bytes(const Dims&) { return 0; }
  FloatForward(const ForwardCall<T>& c, const FloatWeights<T, Cell>& w, void*)
      : Base(c, w.ih, w.hh, w.bias, XSide<Cell>::gates, HSide<Cell>::gates), weights(w) {}

  template <class Before, class F>
  void for_each_tile(const ForwardStep<T>& step, Range group, const Before& before,
                     const F& f) const {
    if constexpr (BPTT_MANY_CELLS)
      Base::template for_each_tile<Callback<Index, Index, Range>,
                                   Callback<Index, Index, Range, const T*, Index>>(step, group,
                                                                                   before, f);
    else
      Base::for_each_tile(step, group, before, f);
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
