// SPDX-License-Identifier: MIT
// The layout of weights, their gradients and states in the kernels. Hidden units are grouped in
// blocks of `lanes`; the last block is padded, and its padding never reaches a result.
#pragma once
#include "kernels/vector/dual.inl"
#include "kernels/work_share.inl"

BPTT_KERNELS_BEGIN

// For numbers that are not negative: the division takes less code without signs.
BPTT_INLINE constexpr Index ceil_div(Index a, Index b) {
  return static_cast<Index>(static_cast<std::size_t>(a + b - 1) / static_cast<std::size_t>(b));
}
BPTT_INLINE constexpr Index smaller(Index a, Index b) { return a < b ? a : b; }
BPTT_INLINE constexpr Index larger(Index a, Index b) { return a > b ? a : b; }

template <class T>
BPTT_INLINE Index blocks_of(Index n) {
  return ceil_div(n, lanes<T>);
}
// Used lanes of block j out of n units.
template <class T>
BPTT_INLINE Index used_lanes(Index j, Index n) {
  return smaller(lanes<T>, n - j * lanes<T>);
}

// The cell without normalisation.
template <class Cell, bool = Cell::layer_norm>
struct Without {
  using Type = Cell;
};
template <class Cell>
struct Without<Cell, true> {
  using Type = typename Cell::Equations;
};
template <class Cell>
using EquationsOf = typename Without<Cell>::Type;

// Sums of a unit in one tile: all, or, normalised, the sums of one product.
template <class Cell>
constexpr int tile_sums = Cell::layer_norm ? Cell::gates : Cell::sums;
// Blocks that share one tile, of units in the forward pass and the weight gradient, of columns in
// the input gradient.
template <class Cell>
constexpr int unit_blocks = tile_sums<Cell> >= 3 ? 1 : 4 / tile_sums<Cell>;
constexpr int column_blocks = 4;

// A rank's sequences among the first `count`, and its blocks of n units.
BPTT_INLINE Range sequences_of(const Team& team, Index count) {
  if (!team.sequences) return {0, count};
  return {smaller(team.sequences[team.rank], count), smaller(team.sequences[team.rank + 1], count)};
}
template <class T>
BPTT_INLINE Range units_of(const Team& team, Index n) {
  const Index all = blocks_of<T>(n);
  return team.sequences ? Range{0, all} : share_of(all, column_blocks, team);
}

// Gradients of each unit in the backward pass: of sums and params, one after the other. The
// gradients of the products' sums are the same array, or another one where the sums are normalised.
template <class Cell, bool = Cell::layer_norm>
struct GradientsOf {
  static constexpr int all = Cell::sums + Cell::params, products = all;
};
template <class Cell>
struct GradientsOf<Cell, true> {
  static constexpr int all = Cell::gradients, products = Cell::sums;
};

// The two windows of pre-activation sums: of the products with x and with h.
template <class Cell>
struct XSide {
  static constexpr int operand = 0;
  static constexpr int first = Cell::x_first, count = Cell::gates;
  static constexpr const int (&gates)[Cell::gates] = Cell::x_gates;
};
// Gates with the operand of a second product have a bias in this window, and no weights.
template <class Cell>
constexpr int h_count() {
  if constexpr (Cell::second_product)
    return Cell::h_products;
  else
    return Cell::gates;
}
template <class Cell>
struct HSide {
  static constexpr int operand = 1;
  static constexpr int first = Cell::h_first, count = h_count<Cell>();
  static constexpr const int (&gates)[Cell::gates] = Cell::h_gates;
};

// All that a tile needs of a cell, so that cells with the same sums share their tiles.
template <int G, int Gh, int S, int x, int h>
struct TileSums {
  static constexpr int gates = G, h_gates = Gh, sums = S, x_first = x, h_first = h;
};
template <class Cell>
using SumsOf = TileSums<Cell::gates, HSide<Cell>::count, tile_sums<Cell>,
                        Cell::layer_norm ? 0 : Cell::x_first, Cell::layer_norm ? 0 : Cell::h_first>;

// The weights of the second product.
template <class Cell, class T>
BPTT_INLINE const T* second_weights(const ForwardCall<T>& call) {
  return Cell::SecondProduct::projects ? call.w_hr : call.w_hh;
}

// --- panels of forward weights: [panel][k][block in panel][gate][lane]; w is [gates*H, K]

template <class T, class Side>
BPTT_INLINE Index unit_packed_size(Index H, Index K) {
  return blocks_of<T>(H) * K * Side::count * lanes<T>;
}

// These functions know only the places of a cell's G gates in w, so that cells share them.

// Packs inputs [begin, end) of the `width` blocks from block j on.
template <class T, int G>
void pack_panel(const int* gates, const T* w, Index H, Index K, Index j, Index width, Index begin,
                Index end, T* packed) {
  for (Index b = 0; b < width; ++b)
    for (Index g = 0; g < G; ++g) {
      const Index units = used_lanes<T>(j + b, H);
      const T* rows = w + (gates[g] * H + (j + b) * lanes<T>)*K;
      T* out = packed + (b * G + g) * lanes<T>;
      for (Index k = begin; k < end; k += lanes<T>) {
        Native<T> block[lanes<T>];
        load_rows<T>(rows + k, K, units, smaller(lanes<T>, end - k), block);
        transpose<T>(block);
        for (Index i = 0; i < smaller(lanes<T>, end - k); ++i)
          store(out + (k - begin + i) * width * G * lanes<T>, block[i]);
      }
    }
}

// Packs the panels of NB blocks that hold blocks [blocks.begin, blocks.end).
template <class T, int G, int NB>
void pack_by_unit(const int* gates, const T* w, Index H, Index K, Range blocks, T* packed,
                  StopPoll& poll) {
  for (Index j = blocks.begin; j < blocks.end; j += NB) {
    const Index width = smaller(NB, blocks_of<T>(H) - j);
    if (poll.stops(16, K, width * G * lanes<T>)) return;
    pack_panel<T, G>(gates, w, H, K, j, width, 0, K, packed + j * K * G * lanes<T>);
  }
}

// Each panel has padded_K inputs, of which K are real.
template <class T, int G, int NB>
void unpack_by_unit(const int* gates, const T* packed, Index H, Index K, Index padded_K,
                    Range blocks, T* w) {
  for (Index j = blocks.begin; j < blocks.end; ++j)
    for (Index g = 0; g < G; ++g) {
      const Index panel = j / NB * NB, width = smaller(NB, blocks_of<T>(H) - panel),
                  step = width * G * lanes<T>;
      const T* from = packed + panel * padded_K * G * lanes<T> + ((j - panel) * G + g) * lanes<T>;
      T* rows = w + (gates[g] * H + j * lanes<T>)*K;
      for (Index k = 0; k < K; k += lanes<T>) {
        const Index n = smaller(lanes<T>, K - k);
        Native<T> block[lanes<T>];
        load_rows<T>(from + k * step, step, n, lanes<T>, block);
        transpose<T>(block);
        for (Index l = 0; l < used_lanes<T>(j, H); ++l) store(rows + l * K + k, block[l], n);
      }
    }
}

// --- panels of backward weights: [panel of input columns][block, gate, lane][column]

template <class T, class Side>
BPTT_INLINE Index column_packed_size(Index H, Index K) {
  return blocks_of<T>(H) * Side::count * lanes<T> * blocks_of<T>(K) * lanes<T>;
}

// Packs the panels that hold column blocks [columns.begin, columns.end).
template <class T, int G>
void pack_by_column(const int* gates, const T* w, Index H, Index K, Range columns, T* packed,
                    StopPoll& poll) {
  const Index rows = blocks_of<T>(H) * G * lanes<T>;
  for (Index c = columns.begin; c < columns.end; c += column_blocks) {
    const Index width = smaller(column_blocks, blocks_of<T>(K) - c);
    if (poll.stops(16, width * lanes<T>, rows)) return;
    T* out = packed + c * lanes<T> * rows;
    for (Index j = 0; j < blocks_of<T>(H); ++j)
      for (Index g = 0; g < G; ++g)
        for (Index l = 0; l < lanes<T>; ++l, out += width * lanes<T>) {
          const bool real = l < used_lanes<T>(j, H);
          const T* row = w + (gates[g] * H + j * lanes<T> + (real ? l : 0)) * K;
          for (Index b = 0; b < width; ++b)
            store(out + b * lanes<T>,
                  real ? load(row + (c + b) * lanes<T>, used_lanes<T>(c + b, K)) : Native<T>{});
        }
  }
}

// Packs the biases of all sums as [block][sum][lane]; null biases are zeros. Where sums are
// normalised, biases are params, and the packed ones are zeros.
template <class T, class Cell>
void pack_bias(const T* b_ih, const T* b_hh, Index H, T* packed) {
  for (Index i = 0; i < blocks_of<T>(H) * Cell::sums * lanes<T>; ++i) packed[i] = 0;
  for (Index u = 0; u < H && !Cell::layer_norm; ++u) {
    T* sums = packed + (u / lanes<T>)*Cell::sums * lanes<T> + u % lanes<T>;
    for (int g = 0; g < Cell::gates; ++g) {
      if (b_ih) sums[(Cell::x_first + g) * lanes<T>] += b_ih[Cell::x_gates[g] * H + u];
      if (b_hh) sums[(Cell::h_first + g) * lanes<T>] += b_hh[Cell::h_gates[g] * H + u];
    }
  }
}

// Packs the params of each unit as [block][param][lane]; null: zeros.
template <class T, class Cell>
void pack_params(const ForwardCall<T>& call, T* packed) {
  const Index H = call.dims.H;
  for (Index j = 0; j < blocks_of<T>(H); ++j) {
    const auto row = [&](const T* rows, Index i) -> Native<T> {
      return rows ? load(rows + i * H + j * lanes<T>, used_lanes<T>(j, H)) : Native<T>{};
    };
    const auto put = [&](Native<T> v) { store(packed, v), packed += lanes<T>; };
    for (int i = 0; i < EquationsOf<Cell>::params; ++i) put(row(call.extras.params, i));
    if constexpr (Cell::layer_norm) {
      const T* const* norm = call.extras.layer_norm;
      for (int g = 0; g < Cell::gates; ++g) put(row(norm[0], Cell::x_gates[g]));
      for (int g = 0; g < Cell::gates; ++g) put(row(norm[1], Cell::h_gates[g]));
      using Own = EquationsOf<Cell>;
      for (int i = 0; i < Own::sums; ++i) {
        const int x = i - Own::x_first, h = i - Own::h_first;
        put((0 <= x && x < Cell::gates ? row(call.b_ih, Cell::x_gates[x]) : Native<T>{}) +
            (0 <= h && h < Cell::gates ? row(call.b_hh, Cell::h_gates[h]) : Native<T>{}));
      }
      for (int i = 2; Cell::layer_norm_c && i < 4; ++i) put(row(norm[i], 0));
    }
  }
}

// Unpacks the gradients of params and biases, [block][gradient][lane].
template <class T, class Cell>
void unpack_gradients(const T* packed, const BackwardCall<T>& call) {
  using Own = EquationsOf<Cell>;
  const Index H = call.dims.H;
  for (Index j = 0; j < blocks_of<T>(H); ++j, packed += GradientsOf<Cell>::all * lanes<T>) {
    const auto take = [&](int gradient, T* rows, Index i) {
      if (!rows) return;  // not wanted
      store(rows + i * H + j * lanes<T>, load(packed + gradient * lanes<T>), used_lanes<T>(j, H));
    };
    for (int g = 0; g < Cell::gates; ++g) {
      take(Own::x_first + g, call.db_ih, Cell::x_gates[g]);
      take(Own::h_first + g, call.db_hh, Cell::h_gates[g]);
    }
    for (int i = 0; i < Own::params; ++i) take(Own::sums + i, call.dparams, i);
    if constexpr (Cell::layer_norm) {
      for (int g = 0; g < Cell::gates; ++g) {
        take(Cell::dgains + g, call.dlayer_norm[0], Cell::x_gates[g]);
        take(Cell::dgains + Cell::gates + g, call.dlayer_norm[1], Cell::h_gates[g]);
      }
      for (int i = 2; Cell::layer_norm_c && i < 4; ++i)
        take(Cell::gradients - 4 + i, call.dlayer_norm[i], 0);
    }
  }
}

// A state, or its gradient: [block][row][lane].
template <class T>
struct StepState {
  T* base;
  Index rows;
  BPTT_INLINE T* at(Index j, Index row) const { return base + (j * rows + row) * lanes<T>; }
};

// Copy rows [r.begin, r.end) of [B, H] to or from [block][row][lane]; null reads as zeros, and
// takes nothing.
template <class T>
void to_blocks(const T* rows, Index H, Range r, const StepState<T>& state) {
  for (Index j = 0; j < blocks_of<T>(H); ++j)
    for (Index b = r.begin; b < r.end; ++b)
      store(state.at(j, b),
            rows ? load(rows + b * H + j * lanes<T>, used_lanes<T>(j, H)) : Native<T>{});
}
template <class T>
void from_blocks(const StepState<T>& state, Index H, Range r, T* rows) {
  if (!rows) return;
  for (Index j = 0; j < blocks_of<T>(H); ++j)
    for (Index b = r.begin; b < r.end; ++b)
      store(rows + b * H + j * lanes<T>, load(state.at(j, b)), used_lanes<T>(j, H));
}

BPTT_KERNELS_END
