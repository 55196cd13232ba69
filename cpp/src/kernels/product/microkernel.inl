// SPDX-License-Identifier: MIT
// The microkernel: a tile of MR rows by a few vectors stays in registers while it runs over the
// inner index.
#pragma once
#include "kernels/vector/dual.inl"
#include "kernels/work_share.inl"

BPTT_KERNELS_BEGIN

// The most rows that take two panels at once: the registers hold no more.
constexpr int few_rows = max_rows < 2 ? 0 : max_rows < 6 ? 1 : 2;

template <int N>
struct Int {
  static constexpr int value = N;
  constexpr operator Index() const { return N; }
};

// Calls f(Int<n>()), so that a run-time 1 <= n <= Max becomes a template argument.
template <int Max, class F>
BPTT_INLINE void static_int(Index n, const F& f) {
  if constexpr (Max > 1) {
    if (n < Max) return static_int<Max - 1>(n, f);
  }
  f(Int<Max>());
}
template <int Max, int N, class F>
BPTT_INLINE void static_int(Int<N> n, const F& f) {
  f(n);
}

// Splits [begin, end) into as few ranges of at most `most` as needed, as equal as possible, and
// calls f(range).
template <class F>
BPTT_INLINE void for_each_range(Index begin, Index end, Index most, const F& f) {
  const Index n = end - begin;
  if (n <= 0) return;
  const Index ranges = n <= most ? 1 : (n + most - 1) / most, size = n / ranges;
  for (Index rest = n - ranges * size, next; begin < end; begin = next, --rest) {
    next = begin + size + (rest > 0);
    f(Range{begin, next});
  }
}

// The same for the rows of one tile, by f(rows, row). `rows` is an Int, or an Index where many
// cells share what f calls.
template <class F>
BPTT_INLINE void for_each_row_block(Index begin, Index end, const F& f) {
  for_each_range(begin, end, max_rows, [&](Range r) BPTT_INLINED {
    if constexpr (BPTT_MANY_CELLS)
      f(r.end - r.begin, r.begin);
    else
      static_int<max_rows>(r.end - r.begin, [&](auto mr) { f(mr, r.begin); });
  });
}

template <class T, int MR, int NV>
using Tile = Native<T>[MR][NV];

template <class T, int MR, int NV>
BPTT_INLINE void clear(Tile<T, MR, NV>& acc) {
  BPTT_UNROLL for (int r = 0; r < MR; ++r) BPTT_UNROLL for (int v = 0; v < NV; ++v) acc[r][v] =
      Native<T>{};
}

// The tiles of nearly all rows where there are many.
template <int MR>
constexpr bool full_tile =
    !BPTT_MANY_CELLS && BPTT_VECTOR_BYTES > 16 && MR >= max_rows - max_rows / 6;
// Inputs that a tile takes in one turn of its loop. A turn of a full one of floats is then few
// instructions beside the multiply-adds.
template <class T, int MR>
constexpr int inputs_together = full_tile<MR> && sizeof(T) == 4 ? 12 / max_rows
                                : MR == 1 && !BPTT_MANY_CELLS   ? 4
                                                                : 1;

// Prefetches memory little by little while a product runs: `step` bytes further with each turn.
struct Ahead {
  const char* at;
  Index step;
  BPTT_INLINE void advance() { __builtin_prefetch(at), at += step; }
};
struct NothingAhead {
  BPTT_INLINE void advance() {}
};

// n; in a loop inside a step the compiler must not see how often the loop runs. It would compute
// where the loop ends before the steps, and load and store more numbers than that saves.
template <bool in_step = true>
BPTT_INLINE Index counted(Index n) {
  if constexpr (in_step) asm("" : "+r"(n));
  return n;
}

// For `Panels` panels p of NB blocks n, MR rows r and the window of G out of S sums of each block:
// acc[r][(p*NB + n)*S + First + g] += sum over k < K of a[r*a_row + p*a_panel + k*a_step] times the
// vector w[p*w_panel + k*w_step + (n*G + g)*lanes]. Every loop over the tile must unroll
// completely: a loop that remains puts the accumulators into memory.
template <class T, int MR, int Panels, int NB, int S, int First, int G, bool in_step = false,
          class Next = NothingAhead>
BPTT_INLINE void multiply_add(Tile<T, MR, Panels * NB * S>& acc, const T* a, Index a_row,
                              Index a_panel, Index a_step, const T* w, Index w_panel, Index w_step,
                              Index K, Next&& next = {}) {
#if defined(__clang__)  // else it fuses operations that its optimiser happens to bring together
#pragma clang fp contract(on)
#endif
  const auto scalar = [&](int r, int p)
                          BPTT_INLINED { return broadcast(a[r * a_row + p * a_panel]); };
  const auto vector = [&](int p, int v)
                          BPTT_INLINED { return load(w + p * w_panel + v * lanes<T>); };
  // The vectors of weights stay in registers while the scalars come one by one, or the other way
  // round where there are not enough registers.
  constexpr int vectors = NB * G;
  constexpr bool hold_rows = MR < vectors && MR * Panels * NB * S + vectors + 1 > registers;
  const auto add = [&]() BPTT_INLINED {
    BPTT_UNROLL for (int p = 0; p < Panels; ++p) {
      Native<T> held[hold_rows ? MR : vectors];
      BPTT_UNROLL for (int i = 0; i < (hold_rows ? MR : vectors); ++i) held[i] =
          hold_rows ? scalar(i, p) : vector(p, i);
      BPTT_UNROLL for (int i = 0; i < (hold_rows ? vectors : MR); ++i) {
        const Native<T> one = hold_rows ? vector(p, i) : scalar(i, p);
        BPTT_UNROLL for (int j = 0; j < (hold_rows ? MR : vectors); ++j) {
          const int r = hold_rows ? j : i, v = hold_rows ? i : j;
          acc[r][(p * NB + v / G) * S + First + v % G] += held[j] * one;
        }
      }
    }
    a += a_step;
    w += w_step;
  };
  constexpr int together = inputs_together<T, MR>;
  for (; K >= together; K = counted<in_step>(K) - together) {
    next.advance();
    BPTT_UNROLL for (int i = 0; i < together; ++i) add();
  }
  for (; together > 1 && K > 0; K = counted<in_step>(K) - 1) add();
}

// The same, prefetching, if it is a full tile.
template <class T, int MR, int Panels, int NB, int S, int First, int G>
BPTT_INLINE void multiply_add_ahead(Tile<T, MR, Panels * NB * S>& acc, const T* a, Index a_row,
                                    Index a_panel, Index a_step, const T* w, Index w_panel,
                                    Index w_step, Index K, Ahead& ahead) {
  if constexpr (full_tile<MR>)
    multiply_add<T, MR, Panels, NB, S, First, G>(acc, a, a_row, a_panel, a_step, w, w_panel, w_step,
                                                 K, ahead);
  else
    multiply_add<T, MR, Panels, NB, S, First, G>(acc, a, a_row, a_panel, a_step, w, w_panel, w_step,
                                                 K);
}

// Prefetch the cache lines of memory that is soon read or written.
BPTT_INLINE void prefetch(const void* p, std::size_t bytes) {
  const char* c = static_cast<const char*>(p);
  for (std::size_t i = 0; i < bytes; i += 64) __builtin_prefetch(c + i);
}
BPTT_INLINE void prefetch_for_writing(const void* p, std::size_t bytes) {
  const char* c = static_cast<const char*>(p);
  for (std::size_t i = 0; i < bytes; i += 64) __builtin_prefetch(c + i, 1);
}

BPTT_KERNELS_END
