// SPDX-License-Identifier: MIT
// Transposes small squares in registers: weights change between rows and panels this way.
#pragma once
#include "kernels/vector/vectors.inl"

BPTT_KERNELS_BEGIN

// Rows a = i and b = i + w of a block exchange lanes: low() takes lanes of b where bit w of the
// lane's number is set, high() lanes of a where it is not.
template <class T, int w>
struct Exchange {
  static constexpr int n = int(lanes<T>);
#if defined(__clang__)
  template <int... l>
  struct Lanes {
    BPTT_INLINE static Native<T> low(Native<T> a, Native<T> b) {
      return __builtin_shufflevector(a, b, (l & w ? n + l - w : l)...);
    }
    BPTT_INLINE static Native<T> high(Native<T> a, Native<T> b) {
      return __builtin_shufflevector(a, b, (l & w ? n + l : l + w)...);
    }
  };
  template <class I, I... l>
  using Sequence = Lanes<l...>;
  using All = __make_integer_seq<Sequence, int, n>;
  BPTT_INLINE static Native<T> low(Native<T> a, Native<T> b) { return All::low(a, b); }
  BPTT_INLINE static Native<T> high(Native<T> a, Native<T> b) { return All::high(a, b); }
#else
  BPTT_INLINE static Native<T> low(Native<T> a, Native<T> b) {
    typename Simd<T>::Mask m;
    BPTT_UNROLL for (int l = 0; l < n; ++l) m[l] = l & w ? n + l - w : l;
    return __builtin_shuffle(a, b, m);
  }
  BPTT_INLINE static Native<T> high(Native<T> a, Native<T> b) {
    typename Simd<T>::Mask m;
    BPTT_UNROLL for (int l = 0; l < n; ++l) m[l] = l & w ? n + l : l + w;
    return __builtin_shuffle(a, b, m);
  }
#endif
};

// Transposes lanes x lanes elements: row i becomes lane i of every row.
template <class T, int w = 1>
BPTT_INLINE void transpose(Native<T> (&rows)[lanes<T>]) {
  if constexpr (w < int(lanes<T>)) {
    BPTT_UNROLL for (int i = 0; i < int(lanes<T>); ++i) if (!(i & w)) {
      const Native<T> a = rows[i], b = rows[i + w];
      rows[i] = Exchange<T, w>::low(a, b);
      rows[i + w] = Exchange<T, w>::high(a, b);
    }
    transpose<T, 2 * w>(rows);
  }
}

// Loads the first n elements of the first `used` rows, which are `stride` apart; zeros for the
// rest.
template <class T>
BPTT_INLINE void load_rows(const T* from, Index stride, Index used, Index n,
                           Native<T> (&rows)[lanes<T>]) {
  if (used == lanes<T> && n == lanes<T>) {
    BPTT_UNROLL for (Index i = 0; i < lanes<T>; ++i) rows[i] = load(from + i * stride);
  } else {
    for (Index i = 0; i < lanes<T>; ++i)
      rows[i] = i < used ? load(from + i * stride, n) : Native<T>{};
  }
}

BPTT_KERNELS_END
