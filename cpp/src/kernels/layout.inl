// SPDX-License-Identifier: MIT
// Where things lie. Hidden units are grouped in blocks of `lanes`; the last block is padded, and
// its padding never reaches a result. State-like arrays are [block][row][lane], weights and their
// gradients as follows.

BPTT_INLINE Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }
BPTT_INLINE Index smaller(Index a, Index b) { return a < b ? a : b; }
BPTT_INLINE Index larger(Index a, Index b) { return a > b ? a : b; }

template <class T>
BPTT_INLINE Index blocks_of(Index n) {
  return ceil_div(n, lanes<T>);
}
// Used lanes of block j out of n units.
template <class T>
BPTT_INLINE Index used_lanes(Index j, Index n) {
  return smaller(lanes<T>, n - j * lanes<T>);
}

// Blocks that share one tile: forward and weight gradient (all sums of a unit are in one tile),
// input gradient.
template <class Cell>
constexpr int unit_blocks = Cell::sums >= 3 ? 1 : 4 / Cell::sums;
constexpr int column_blocks = 4;

// The two windows of pre-activation sums that the products with x and with h deliver.
template <class Cell>
struct XSide {
  static constexpr int first = Cell::x_first;
  static constexpr const int (&gates)[Cell::gates] = Cell::x_gates;
};
template <class Cell>
struct HSide {
  static constexpr int first = Cell::h_first;
  static constexpr const int (&gates)[Cell::gates] = Cell::h_gates;
};

// Counts floating-point operations, and asks every millisecond or so whether to stop.
struct Patience {
  const Interrupt& interrupt;
  double work = 0;
  bool stopped = false;

  bool ends(Index rows, Index inputs, Index outputs) {
    constexpr double overhead = 2e4;  // of a step or a loop, as operations
    work += 2.0 * static_cast<double>(rows) * static_cast<double>(inputs) *
                static_cast<double>(outputs) +
            overhead;
    if (!interrupt.requested || work < 5e7 || stopped) return stopped;
    work = 0;
    return stopped = interrupt.requested(interrupt.context);
  }
};

// Panels of forward weights: [panel][k][block in panel][gate][lane]; w is [gates*H, K].
template <class T, class Cell>
BPTT_INLINE Index unit_packed_index(Index j, Index k, Index g, Index H, Index K) {
  const Index panel = j / unit_blocks<Cell>,
              width = smaller(unit_blocks<Cell>, blocks_of<T>(H) - panel * unit_blocks<Cell>);
  const Index start = panel * unit_blocks<Cell> * K;
  return ((start + k * width + j % unit_blocks<Cell>)*Cell::gates + g) * lanes<T>;
}
template <class T, class Cell>
BPTT_INLINE Index unit_packed_size(Index H, Index K) {
  return blocks_of<T>(H) * K * Cell::gates * lanes<T>;
}

template <class T, class Cell, class Side>
void pack_by_unit(const T* w, Index H, Index K, T* packed, Patience& patience) {
  for (Index j = 0; j < blocks_of<T>(H) && !patience.ends(16, K, Cell::gates * lanes<T>); ++j)
    for (Index g = 0; g < Cell::gates; ++g) {
      const T* rows = w + (Side::gates[g] * H + j * lanes<T>)*K;
      const Index used = used_lanes<T>(j, H);
      for (Index k = 0; k < K; ++k) {
        T* p = packed + unit_packed_index<T, Cell>(j, k, g, H, K);
        for (Index l = 0; l < lanes<T>; ++l) p[l] = l < used ? rows[l * K + k] : T(0);
      }
    }
}

template <class T, class Cell, class Side>
void unpack_by_unit(const T* packed, Index H, Index K, T* w) {
  for (Index j = 0; j < blocks_of<T>(H); ++j)
    for (Index g = 0; g < Cell::gates; ++g) {
      T* rows = w + (Side::gates[g] * H + j * lanes<T>)*K;
      const Index used = used_lanes<T>(j, H);
      for (Index k = 0; k < K; ++k) {
        const T* p = packed + unit_packed_index<T, Cell>(j, k, g, H, K);
        for (Index l = 0; l < used; ++l) rows[l * K + k] = p[l];
      }
    }
}

// Panels of backward weights: [panel of input columns][block, gate, lane][column]; w is [gates*H,
// K].
template <class T, class Cell>
BPTT_INLINE Index column_packed_size(Index H, Index K) {
  return blocks_of<T>(H) * Cell::gates * lanes<T> * blocks_of<T>(K) * lanes<T>;
}

template <class T, class Cell, class Side>
void pack_by_column(const T* w, Index H, Index K, T* packed, Patience& patience) {
  constexpr Index panel_width = column_blocks * lanes<T>;
  for (Index column = 0; column < K; column += panel_width) {
    if (patience.ends(16, panel_width, Cell::gates * H)) return;
    const Index used = smaller(panel_width, K - column), width = blocks_of<T>(used) * lanes<T>;
    for (Index j = 0; j < blocks_of<T>(H); ++j)
      for (Index g = 0; g < Cell::gates; ++g)
        for (Index l = 0; l < lanes<T>; ++l, packed += width) {
          const bool real = l < used_lanes<T>(j, H);
          const T* row = w + (Side::gates[g] * H + j * lanes<T> + (real ? l : 0)) * K + column;
          for (Index c = 0; c < width; ++c) packed[c] = real && c < used ? row[c] : T(0);
        }
  }
}

// Biases of all sums, [block][sum][lane]; null biases are zeros.
template <class T, class Cell>
void pack_bias(const T* b_ih, const T* b_hh, Index H, T* packed) {
  for (Index i = 0; i < blocks_of<T>(H) * Cell::sums * lanes<T>; ++i) packed[i] = 0;
  for (Index u = 0; u < H; ++u) {
    T* sums = packed + (u / lanes<T>)*Cell::sums * lanes<T> + u % lanes<T>;
    for (int g = 0; g < Cell::gates; ++g) {
      if (b_ih) sums[(Cell::x_first + g) * lanes<T>] += b_ih[Cell::x_gates[g] * H + u];
      if (b_hh) sums[(Cell::h_first + g) * lanes<T>] += b_hh[Cell::h_gates[g] * H + u];
    }
  }
}

template <class T, class Cell>
void unpack_bias(const T* packed, Index H, T* b_ih, T* b_hh) {
  for (Index u = 0; u < H; ++u) {
    const T* sums = packed + (u / lanes<T>)*Cell::sums * lanes<T> + u % lanes<T>;
    for (int g = 0; g < Cell::gates; ++g) {
      b_ih[Cell::x_gates[g] * H + u] = sums[(Cell::x_first + g) * lanes<T>];
      b_hh[Cell::h_gates[g] * H + u] = sums[(Cell::h_first + g) * lanes<T>];
    }
  }
}

// [B, H] <-> [block][B][lane]; null reads as zeros.
template <class T>
void to_blocks(const T* rows, Index B, Index H, T* blocks) {
  for (Index j = 0; j < blocks_of<T>(H); ++j)
    for (Index b = 0; b < B; ++b)
      store(blocks + (j * B + b) * lanes<T>,
            rows ? load(rows + b * H + j * lanes<T>, used_lanes<T>(j, H)) : Native<T>{});
}
template <class T>
void from_blocks(const T* blocks, Index B, Index H, T* rows) {
  for (Index j = 0; j < blocks_of<T>(H); ++j)
    for (Index b = 0; b < B; ++b)
      store(rows + b * H + j * lanes<T>, load(blocks + (j * B + b) * lanes<T>),
            used_lanes<T>(j, H));
}

// What the backward pass needs beside x and y.
template <class T, class Cell>
struct Tape {
  T* w_ih;                // by column
  T* w_hh;                // by column
  T* h0;                  // [B, H]
  T* state0[max_states];  // from 1: [block][B][lane]
  T* states[max_states];  // from 1: [step] of [block][row in step][lane]: after each step
  T* saved;               // [step] of [block][row in step][value][lane]
  std::size_t bytes;

  Tape(void* buffer, const Dims& d, Index rows) {
    Pieces pieces{static_cast<char*>(buffer)};
    const Index padded = blocks_of<T>(d.H) * lanes<T>;
    w_ih = pieces.take<T>(column_packed_size<T, Cell>(d.H, d.I));
    w_hh = pieces.take<T>(column_packed_size<T, Cell>(d.H, d.H));
    h0 = pieces.take<T>(d.B * d.H);
    for (int q = 1; q < Cell::states; ++q) {
      state0[q] = pieces.take<T>(d.B * padded);
      states[q] = pieces.take<T>(rows * padded);
    }
    saved = pieces.take<T>(rows * padded * Cell::saved);
    bytes = pieces.used;
  }
};

// A state-like array of one step.
template <class T>
struct StepState {
  T* base;
  Index rows;
  T* at(Index j, Index row) const { return base + (j * rows + row) * lanes<T>; }
};

// Which rows of step t continue a sequence from `previous`, the step before it in the order of
// processing, and which start from the initial state: [0, continuing) and [continuing, count).
struct StepRows {
  Index count, continuing, previous;
  StepRows(const Rows& rows, Index T, Index t) {
    previous = rows.reverse ? t + 1 : t - 1;
    count = rows.count[t];
    continuing = previous < 0 || previous >= T ? 0 : smaller(rows.count[previous], count);
  }
};
