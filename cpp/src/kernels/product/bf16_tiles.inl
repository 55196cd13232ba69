// SPDX-License-Identifier: MIT
// Products in bfloat16 with sums in float32. There is one operation, C += A W, with rows of A as
// pairs of inputs, and W in panels [input pair][column][2]. Inputs are padded with zeros to the
// depth of an instruction, rows of buffers to its height.
#pragma once
#include "kernels/product/microkernel.inl"
#include "kernels/product/weight_layout.inl"

BPTT_KERNELS_BEGIN

using Bf16 = std::uint16_t;
constexpr Index depth = 32, height = 16;
BPTT_INLINE Index padded_to(Index unit, Index n) { return ceil_div(n, unit) * unit; }

// --- conversion

BPTT_INLINE __m256i rounded(F32 v) { return (__m256i)_mm512_cvtneps_pbh(v); }
// Alternates lanes of a and b.
BPTT_INLINE __m512i paired(F32 a, F32 b) {
  return _mm512_or_si512(_mm512_cvtepu16_epi32(rounded(a)),
                         _mm512_slli_epi32(_mm512_cvtepu16_epi32(rounded(b)), 16));
}
BPTT_INLINE void store_pairs(Bf16* out, F32 a, F32 b) { _mm512_storeu_si512(out, paired(a, b)); }
BPTT_INLINE void store_rounded(Bf16* out, F32 v) { _mm256_storeu_si256((__m256i*)out, rounded(v)); }

// Rounds rows of `width` numbers to rows of padded_to(depth, width).
void round_rows(const float* from, Index width, Index n_rows, Bf16* to) {
  constexpr Index L = lanes<float>;
  const Index padded = padded_to(depth, width);
  for (Index r = 0; r < n_rows; ++r)
    for (Index k = 0; k < padded; k += L)
      store_rounded(to + r * padded + k,
                    k < width ? load(from + r * width + k, smaller(L, width - k)) : F32{});
}

// --- the product

#if defined(BPTT_AMX)

// GCC does not know that its tile instructions read and write memory: without this, it may drop or
// move other accesses to that memory.
BPTT_INLINE void memory_is_used() { __asm__ volatile("" ::: "memory"); }

// Configures the tile registers of a thread until the end of the scope: each has 16 rows of 64
// bytes.
struct TileRegisters {
  TileRegisters() {
    struct alignas(64) {
      std::uint8_t palette = 1, start = 0, reserved[14] = {};
      std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } configuration;
    __asm__ volatile("" ::"r"(&configuration) : "memory");
    _tile_loadconfig(&configuration);
  }
  ~TileRegisters() { _tile_release(); }
};

// Two tiles of rows by two tiles of columns: each loaded operand serves twice.
void product_2x2(const Bf16* a, Index a_row, const Bf16* w, Index w_row, Index K, float* c,
                 Index c_row) {
  const auto stride = [](Index elements, std::size_t size) {
    return elements * static_cast<Index>(size);
  };
  const Index as = stride(a_row, sizeof(Bf16)), ws = stride(w_row, sizeof(Bf16)),
              cs = stride(c_row, sizeof(float));
  float* below = c + height * c_row;
  memory_is_used();
  _tile_loadd(0, c, cs);
  _tile_loadd(1, c + 16, cs);
  _tile_loadd(2, below, cs);
  _tile_loadd(3, below + 16, cs);
  for (Index k = 0; k < K; k += depth) {
    _tile_loadd(4, a + k, as);
    _tile_loadd(5, a + height * a_row + k, as);
    _tile_loadd(6, w + k / 2 * w_row, ws);
    _tile_loadd(7, w + k / 2 * w_row + 32, ws);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, c, cs);
  _tile_stored(1, c + 16, cs);
  _tile_stored(2, below, cs);
  _tile_stored(3, below + 16, cs);
  memory_is_used();
}
void product_1x1(const Bf16* a, Index a_row, const Bf16* w, Index w_row, Index K, float* c,
                 Index c_row) {
  memory_is_used();
  _tile_loadd(0, c, c_row * 4);
  for (Index k = 0; k < K; k += depth) {
    _tile_loadd(4, a + k, a_row * 2);
    _tile_loadd(6, w + k / 2 * w_row, w_row * 2);
    _tile_dpbf16ps(0, 4, 6);
  }
  _tile_stored(0, c, c_row * 4);
  memory_is_used();
}
void product_1x4(const Bf16* a, Index a_row, const Bf16* w, Index w_row, Index K, float* c,
                 Index c_row) {
  memory_is_used();
  _tile_loadd(0, c, c_row * 4);
  _tile_loadd(1, c + 16, c_row * 4);
  _tile_loadd(2, c + 32, c_row * 4);
  _tile_loadd(3, c + 48, c_row * 4);
  for (Index k = 0; k < K; k += depth) {
    const Bf16* p = w + k / 2 * w_row;
    _tile_loadd(4, a + k, a_row * 2);
    _tile_loadd(5, p, w_row * 2);
    _tile_loadd(6, p + 32, w_row * 2);
    _tile_loadd(7, p + 64, w_row * 2);
    _tile_dpbf16ps(0, 4, 5);
    _tile_loadd(5, p + 96, w_row * 2);
    _tile_dpbf16ps(1, 4, 6);
    _tile_dpbf16ps(2, 4, 7);
    _tile_dpbf16ps(3, 4, 5);
  }
  _tile_stored(0, c, c_row * 4);
  _tile_stored(1, c + 16, c_row * 4);
  _tile_stored(2, c + 32, c_row * 4);
  _tile_stored(3, c + 48, c_row * 4);
  memory_is_used();
}

// C[n, 16*vectors] += A[n, K] W; A and C have memory for rows up to the next multiple of `height`.
void product(const Bf16* a, Index a_row, Index n, const Bf16* w, Index vectors, Index w_row,
             Index K, float* c, Index c_row) {
  for (Index r = 0; r < n;) {
    const bool two = n - r > height;
    for (Index v = 0; v < vectors;) {
      const Bf16 *ar = a + r * a_row, *wv = w + v * 32;
      float* cv = c + r * c_row + v * 16;
      if (two && v + 2 <= vectors) {
        product_2x2(ar, a_row, wv, w_row, K, cv, c_row);
        v += 2;
      } else if (!two && v + 4 <= vectors) {
        product_1x4(ar, a_row, wv, w_row, K, cv, c_row);
        v += 4;
      } else {
        product_1x1(ar, a_row, wv, w_row, K, cv, c_row);
        if (two) product_1x1(ar + height * a_row, a_row, wv, w_row, K, cv + height * c_row, c_row);
        ++v;
      }
    }
    r += two ? 2 * height : height;
  }
}

#else

struct TileRegisters {
  ~TileRegisters() {}
};

template <int MR, int NV>
__attribute__((noinline)) void product_tile(const Bf16* a, Index a_row, const Bf16* w, Index w_row,
                                            Index K, float* c, Index c_row) {
  constexpr Index L = lanes<float>;
  Tile<float, MR, NV> acc;
  BPTT_UNROLL for (int r = 0; r < MR; ++r) BPTT_UNROLL for (int v = 0; v < NV; ++v) acc[r][v] =
      load(c + r * c_row + v * L);
  for (Index k = 0; k < K; k += 2, w += w_row) {
    __m512i b[NV];
    BPTT_UNROLL for (int v = 0; v < NV; ++v) b[v] = _mm512_loadu_si512(w + v * 2 * L);
    BPTT_UNROLL for (int r = 0; r < MR; ++r) {
      int pair;
      __builtin_memcpy(&pair, a + r * a_row + k, sizeof pair);
      const __m512i s = _mm512_set1_epi32(pair);
      BPTT_UNROLL for (int v = 0; v < NV; ++v) acc[r][v] =
          _mm512_dpbf16_ps(acc[r][v], (__m512bh)s, (__m512bh)b[v]);
    }
  }
  BPTT_UNROLL for (int r = 0; r < MR; ++r) BPTT_UNROLL for (int v = 0; v < NV; ++v)
      store(c + r * c_row + v * L, acc[r][v]);
}

// C[n, 16*vectors] += A[n, K] W
void product(const Bf16* a, Index a_row, Index n, const Bf16* w, Index vectors, Index w_row,
             Index K, float* c, Index c_row) {
  for (Index v = 0; v < vectors; v += 4)
    for_each_row_block(0, n, [&](auto rows, Index r) {
      static_int<max_rows>(rows, [&](auto mr) {
        static_int<4>(smaller(4, vectors - v), [&](auto nv) {
          product_tile<mr.value, nv.value>(a + r * a_row, a_row, w + v * 32, w_row, K,
                                           c + r * c_row + v * 16, c_row);
        });
      });
    });
}

#endif

BPTT_KERNELS_END
