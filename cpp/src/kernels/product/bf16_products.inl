// SPDX-License-Identifier: MIT
// The products in bfloat16. Bf16Products is the Backend of the loops.
#pragma once
#include "kernels/product/bf16_tiles.inl"
#include "kernels/product/row_runs.inl"
#include "kernels/time/tape.inl"

BPTT_KERNELS_BEGIN

template <class Cell>
struct Bf16Weights {
  static constexpr int G = Cell::gates;
  static constexpr Index L = lanes<float>;
  Bf16 *ih, *hh;  // [panel][input pair][block in panel][gate][lane][2]
  float* bias;    // [block][sum][lane]
  static constexpr float* params = nullptr;
  std::size_t bytes;

  Bf16Weights(void* buffer, const Dims& d) {
    Arena arena{buffer};
    const Index columns = blocks_of<float>(d.H) * G * L;
    ih = arena.take<Bf16>(columns * padded_to(depth, d.I));
    hh = arena.take<Bf16>(columns * padded_to(depth, d.H));
    bias = arena.take<float>(blocks_of<float>(d.H) * Cell::sums * L);
    bytes = arena.used;
  }

  template <class Side>
  static void pack(const float* w, Index H, Index K, Range blocks, Bf16* out, StopPoll& poll) {
    for (Index j = blocks.begin; j < blocks.end; ++j) {
      if (poll.stops(16, K, G * L)) return;
      const Index panel = j / unit_blocks<Cell> * unit_blocks<Cell>,
                  width = smaller(unit_blocks<Cell>, blocks_of<float>(H) - panel);
      for (Index g = 0; g < G; ++g) {
        const float* rows = w + (Side::gates[g] * H + j * L) * K;
        Bf16* to = out + panel * G * L * padded_to(depth, K) + ((j - panel) * G + g) * 2 * L;
        for (Index k = 0; k < padded_to(depth, K); k += L) {
          F32 block[L] = {};
          if (k < K) {
            load_rows<float>(rows + k, K, used_lanes<float>(j, H), smaller(L, K - k), block);
            transpose<float>(block);
          }
          for (Index i = 0; i < L; i += 2)
            store_pairs(to + (k + i) / 2 * width * G * 2 * L, block[i], block[i + 1]);
        }
      }
    }
  }
  void pack(const ForwardCall<float>& call, Range blocks, StopPoll& poll) const {
    const Dims& d = call.dims;
    pack<XSide<Cell>>(call.w_ih, d.H, d.I, blocks, ih, poll);
    pack<HSide<Cell>>(call.w_hh, d.H, d.H, blocks, hh, poll);
  }
};

template <class Cell>
struct Bf16Forward {
  static constexpr int G = Cell::gates, S = Cell::sums;
  static constexpr Index L = lanes<float>, tile_rows = 2 * height;
  const Dims& d;
  const Bf16Weights<Cell>& weights;
  const Index Kx, Kh, all;
  Bf16 *x, *h;  // [row of a step or of a projection][input]
  const TileRegisters tiles;

  static Index rows(const Dims& d) { return larger(d.B, projected_rows) + tile_rows; }
  static std::size_t scratch_bytes(const Dims& d) {
    return static_cast<std::size_t>(rows(d) * (padded_to(depth, d.I) + padded_to(depth, d.H))) *
           sizeof(Bf16);
  }
  Bf16Forward(const ForwardCall<float>& call, const Bf16Weights<Cell>& w, void* scratch)
      : d(call.dims),
        weights(w),
        Kx(padded_to(depth, d.I)),
        Kh(padded_to(depth, d.H)),
        all(blocks_of<float>(d.H) * S * L),
        x(static_cast<Bf16*>(scratch)),
        h(x + rows(d) * Kx) {}

  void prepare(const ForwardStep<float>& step) const {
    const Range r = step.rows;
    if (!step.sums) round_rows(step.x + r.begin * d.I, d.I, r.end - r.begin, x + r.begin * Kx);
    round_rows(step.operand + r.begin * d.H, d.H, r.end - r.begin, h + r.begin * Kh);
  }

  Index group_width(Index j, Index end, Index) const { return smaller(unit_blocks<Cell>, end - j); }

  void add_x(Index row, Index n, Index j, Index width, float* sums, Index row_size) const {
    product(x + row * Kx, Kx, n, weights.ih + j * G * L * Kx, width * G, width * G * 2 * L, Kx,
            sums + Cell::x_first * L, row_size);
  }
  void add_h(Index row, Index n, Index j, Index width, float* sums, Index row_size) const {
    product(h + row * Kh, Kh, n, weights.hh + j * G * L * Kh, width * G, width * G * 2 * L, Kh,
            sums + Cell::h_first * L, row_size);
  }

  template <class Before, class F>
  void for_each_tile(const ForwardStep<float>& step, Range panel, const Before& before,
                     const F& f) const {
    const Index j = panel.begin, width = panel.end - panel.begin;
    alignas(64) float sums[tile_rows * unit_blocks<Cell> * S * L];
    const Index row_size = width * S * L, most = step.whole ? step.count : tile_rows;
    for (Index row = step.rows.begin; row < step.rows.end; row += most) {
      const Range r{row, smaller(row + most, step.rows.end)};
      const Index n = r.end - r.begin;
      if (step.whole) return f(j, width, r, step.sums + row * all + j * S * L, all);
      before(j, width, r);
      for (Index i = 0; i < n; ++i)
        __builtin_memcpy(
            sums + i * row_size,
            step.sums ? step.sums + (row + i) * all + j * S * L : weights.bias + j * S * L,
            static_cast<std::size_t>(row_size) * sizeof(float));
      if (!step.sums) add_x(row, n, j, width, sums, row_size);
      add_h(row, n, j, width, sums, row_size);
      f(j, width, r, static_cast<const float*>(sums), row_size);
    }
  }

  bool projects() const { return true; }
  void prepare_projection(const float* from_x, const float* from_h, Index n) const {
    round_rows(from_x, d.I, n, x);
    if (from_h) round_rows(from_h, d.H, n, h);
  }
  void project(const float*, const float* from_h, Index n, Index j, Index width, float* out) const {
    alignas(64) float sums[projected_rows * unit_blocks<Cell> * S * L];
    const Index row_size = width * S * L;
    const auto bytes = static_cast<std::size_t>(row_size) * sizeof(float);
    for (Index i = 0; i < n; ++i)
      __builtin_memcpy(sums + i * row_size, weights.bias + j * S * L, bytes);
    add_x(0, n, j, width, sums, row_size);
    if (from_h) add_h(0, n, j, width, sums, row_size);
    for (Index i = 0; i < n; ++i)
      __builtin_memcpy(out + i * all + j * S * L, sums + i * row_size, bytes);
  }
};

template <class Cell>
struct Bf16Backward {
  using T = float;
  static constexpr int G = Cell::gates, S = Cell::sums;
  static constexpr Index L = lanes<float>, tile_rows = 2 * height;
  static constexpr bool one_window = Cell::x_first == Cell::h_first;
  const Rows& rows;
  const float* dsums;  // [block][chunk_rows][sum][lane]
  const Index blocks, K;
  Bf16 *dx_sums, *dh_sums;  // [row of the chunk][block][gate][lane], of each window
  Bf16* pairs;              // [block][pair of rows][gate][lane][2]
  Bf16* left;               // [input][row]
  StopPoll& poll;
  const TileRegisters tiles;

  static Index sums_size(const Dims& d, const Rows& r) {
    return (r.chunk_rows + tile_rows) * padded_to(depth, blocks_of<float>(d.H) * G * L);
  }
  // For one rank.
  static Index rank_size(const Dims& d, const Rows& r) {
    return 2 * sums_size(d, r) +
           sum_rows * (blocks_of<float>(d.H) * G * L + padded_to(tile_rows, larger(d.I, d.H)));
  }
  static std::size_t scratch_bytes(const Dims& d, const Rows& r) {
    return static_cast<std::size_t>(r.groups * rank_size(d, r)) * sizeof(Bf16);
  }
  Bf16Backward(const Dims& d, const Rows& r, const float* sums, void* scratch, int rank,
               StopPoll& p)
      : rows(r),
        dsums(sums),
        blocks(blocks_of<float>(d.H)),
        K(padded_to(depth, blocks * G * L)),
        dx_sums(static_cast<Bf16*>(scratch) + rank * rank_size(d, r)),
        dh_sums(one_window ? dx_sums : dx_sums + sums_size(d, r)),
        pairs(dx_sums + 2 * sums_size(d, r)),
        left(pairs + sum_rows * blocks * G * L),
        poll(p) {}

  // Rounds rows r of dsums, row by row.
  template <class Side>
  void round_window(Range r, Bf16* to) const {
    for (Index row = r.begin; row < r.end; ++row) {
      for (Index j = 0; j < blocks; ++j)
        for (Index g = 0; g < G; ++g)
          store_rounded(to + row * K + (j * G + g) * L,
                        load(dsums + ((j * rows.chunk_rows + row) * S + Side::first + g) * L));
      for (Index k = blocks * G * L; k < K; k += L) store_rounded(to + row * K + k, F32{});
    }
  }
  void prepare(Range r) const {
    round_window<XSide<Cell>>(r, dx_sums);
    if (!one_window) round_window<HSide<Cell>>(r, dh_sums);
  }

  template <class Side, class F>
  void for_each_tile(Range r, const Bf16* w, Index inputs, Range c, const F& f) const {
    alignas(64) float tile[tile_rows * column_blocks * L];
    const Bf16* sums = Side::first == Cell::x_first ? dx_sums : dh_sums;
    for (Index j = c.begin; j < c.end; j += column_blocks) {
      const Index width = smaller(column_blocks, blocks_of<float>(inputs) - j);
      if (poll.stops(r.end - r.begin, K, width * L)) return;
      for (Index row = r.begin; row < r.end; row += tile_rows) {
        const Index n = smaller(tile_rows, r.end - row);
        __builtin_memset(tile, 0, sizeof tile);
        product(sums + row * K, K, n, w + j * L * K, width, width * 2 * L, K, tile, width * L);
        f(row, n, j * L, width, tile);
      }
    }
  }

  // The rows of all runs, one after the other: dsums as pairs, x or h transposed. Zeros fill them
  // up to a multiple of `depth`.
  template <class F>
  static void for_each_row(const RowRuns<float>& runs, const F& f) {
    Index k = 0;
    for (int i = 0; i < runs.count; ++i)
      for (Index r = 0; r < runs.run[i].rows; ++r) f(k++, runs.run[i], r);
  }
  template <class Side>
  void pair_rows(const RowRuns<float>& runs, Index padded) const {
    const float* row_of[sum_rows];
    for_each_row(runs, [&](Index k, const auto& run, Index r) {
      row_of[k] = dsums + ((run.row + r) * S + Side::first) * L;
    });
    for (Index j = 0; j < blocks; ++j)
      for (Index k = 0; k < padded; k += 2)
        for (Index g = 0; g < G; ++g) {
          const Index at = j * rows.chunk_rows * S * L + g * L;
          store_pairs(pairs + ((j * padded / 2 + k / 2) * G + g) * 2 * L,
                      k < runs.rows ? load(row_of[k] + at) : F32{},
                      k + 1 < runs.rows ? load(row_of[k + 1] + at) : F32{});
        }
  }
  void transpose_left(const RowRuns<float>& runs, Index N, Range n, Index padded) const {
    const float* row_of[sum_rows];
    for_each_row(runs, [&](Index k, const auto& run, Index r) { row_of[k] = run.left + r * N; });
    for (Index i = n.begin; i < n.end; i += L)
      for (Index k = 0; k < padded; k += L) {
        F32 block[L];
        for (Index r = 0; r < L; ++r)
          block[r] = k + r < runs.rows ? load(row_of[k + r] + i, smaller(L, n.end - i)) : F32{};
        transpose<float>(block);
        for (Index l = 0; l < L; ++l)
          store_rounded(left + (i - n.begin + l) * padded + k, block[l]);
      }
  }

  template <class Side>
  void add_weights(const RowRuns<float>& runs, Index N, Range n, float* dw) const {
    const Index padded = padded_to(depth, runs.rows), padded_N = padded_to(tile_rows, N);
    if (n.begin >= n.end) return;
    pair_rows<Side>(runs, padded);
    transpose_left(runs, N, n, padded);
    for (Index j = 0; j < blocks; ++j) {
      if (poll.stops(runs.rows, n.end - n.begin, G * L)) return;
      const Index panel = j / unit_blocks<Cell> * unit_blocks<Cell>,
                  width = smaller(unit_blocks<Cell>, blocks - panel), row_size = width * G * L;
      product(left, padded, n.end - n.begin, pairs + j * padded * G * L, G, G * 2 * L, padded,
              dw + panel * padded_N * G * L + n.begin * row_size + (j - panel) * G * L, row_size);
    }
  }
};

template <class Cell_>
struct Bf16Products {
  using T = float;
  using Cell = Cell_;
  using Weights = Bf16Weights<Cell>;
  using Forward = Bf16Forward<Cell>;
  using Backward = Bf16Backward<Cell>;
  static constexpr bool takes_rows = false;
  using Column = Bf16;  // [panel of columns][pair of (block, gate, lane)][column][2]
  static constexpr Index L = lanes<float>;

  template <class Side>
  static Index column_size(Index H, Index K) {
    return padded_to(depth, blocks_of<float>(H) * Cell::gates * L) * blocks_of<float>(K) * L;
  }
  static Index padded_inputs(Index K) { return padded_to(2 * height, K); }

  // Packs one panel of columns after the other.
  template <class Side>
  static void pack(const float* w, Index H, Index K, Range columns, Bf16* packed, StopPoll& poll) {
    const Index used = blocks_of<float>(H) * Cell::gates * L, rows = padded_to(depth, used);
    for (Index c = columns.begin; c < columns.end; c += column_blocks) {
      const Index width = smaller(column_blocks, blocks_of<float>(K) - c);
      if (poll.stops(16, width * L, rows)) return;
      const auto row = [&](Index k, Index b) {  // k counts (block, gate, lane)
        const Index j = k / (Cell::gates * L), g = k / L % Cell::gates, u = j * L + k % L;
        if (k >= used || u >= H) return F32{};
        return load(w + (Side::gates[g] * H + u) * K + (c + b) * L, used_lanes<float>(c + b, K));
      };
      for (Index k = 0; k < rows; k += 2)
        for (Index b = 0; b < width; ++b)
          store_pairs(packed + c * L * rows + (k / 2 * width + b) * 2 * L, row(k, b),
                      row(k + 1, b));
    }
  }
  template <class Tape>
  static void pack_columns(const ForwardCall<float>& call, const Tape& tape, Range xs, Range hs,
                           StopPoll& poll) {
    const Dims& d = call.dims;
    pack<XSide<Cell>>(call.w_ih, d.H, d.I, xs, tape.w_ih, poll);
    pack<HSide<Cell>>(call.w_hh, d.H, d.H, hs, tape.w_hh, poll);
  }
};

BPTT_KERNELS_END
