// SPDX-License-Identifier: MIT
// The microkernel: a tile of MR rows by a few vectors stays in registers while it runs over the
// inner index.

template <int N>
struct Int {
  static constexpr int value = N;
};

// f(Int<n>()), so that a run-time 1 <= n <= Max becomes a template argument.
template <int Max, class F>
BPTT_INLINE void with_int(Index n, const F& f) {
  if constexpr (Max > 1) {
    if (n < Max) return with_int<Max - 1>(n, f);
  }
  f(Int<Max>());
}

// Split [begin, end) into as few blocks of at most max_rows as needed, as equal as possible:
// f(Int<rows>(), row).
template <class F>
BPTT_INLINE void each_row_block(Index begin, Index end, const F& f) {
  for (Index blocks = (end - begin + max_rows - 1) / max_rows; blocks > 0; --blocks) {
    const Index rows = (end - begin + blocks - 1) / blocks;
    with_int<max_rows>(rows, [&](auto mr) { f(mr, begin); });
    begin += rows;
  }
}

template <class T, int MR, int NV>
using Tile = Native<T>[MR][NV];

template <class T, int MR, int NV>
BPTT_INLINE void zero(Tile<T, MR, NV>& acc) {
  BPTT_UNROLL for (int r = 0; r < MR; ++r) BPTT_UNROLL for (int v = 0; v < NV; ++v) acc[r][v] =
      Native<T>{};
}

template <class T, int MR, int NV>
BPTT_INLINE void store_tile(T* out, const Tile<T, MR, NV>& acc) {
  BPTT_UNROLL for (int r = 0; r < MR; ++r) BPTT_UNROLL for (int v = 0; v < NV; ++v)
      store(out + (r * NV + v) * lanes<T>, acc[r][v]);
}

// acc[r][b*S + First + g] += sum over k < K of a[r*a_row + k*a_step] * w[k*w_step + b*w_block +
// g*lanes ...], for MR rows r, NB blocks of hidden units b, and the window of G out of S sums of
// each unit. Every loop over the tile must unroll completely: one that stays a loop puts the
// accumulators into memory.
template <class T, int MR, int NB, int S, int First, int G>
BPTT_INLINE void multiply_add(Tile<T, MR, NB * S>& acc, const T* a, Index a_row, Index a_step,
                              const T* w, Index w_step, Index w_block, Index K) {
  for (Index k = 0; k < K; ++k) {
    Native<T> b[NB * G];
    BPTT_UNROLL for (int n = 0; n < NB; ++n) BPTT_UNROLL for (int g = 0; g < G; ++g) b[n * G + g] =
        load(w + n * w_block + g * lanes<T>);
    BPTT_UNROLL for (int r = 0; r < MR; ++r) {
      const Native<T> s = broadcast(a[r * a_row]);
      BPTT_UNROLL for (int n = 0; n < NB; ++n) BPTT_UNROLL for (int g = 0; g < G; ++g)
          acc[r][n * S + First + g] += s * b[n * G + g];
    }
    a += a_step;
    w += w_step;
  }
}

// Ask for the cache lines of a piece of memory that is soon read or written.
BPTT_INLINE void prefetch(const void* p, std::size_t bytes) {
  const char* c = static_cast<const char*>(p);
  for (std::size_t i = 0; i < bytes; i += 64) __builtin_prefetch(c + i);
}
BPTT_INLINE void prefetch_for_writing(const void* p, std::size_t bytes) {
  const char* c = static_cast<const char*>(p);
  for (std::size_t i = 0; i < bytes; i += 64) __builtin_prefetch(c + i, 1);
}
