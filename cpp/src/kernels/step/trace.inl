// SPDX-License-Identifier: MIT
// The trace of a backward pass: for each row (a step of a sequence) the norms of the gradients that
// reach its states and gates, computed from a chunk while it is in the cache.
#pragma once
#include "kernels/time/forward.inl"

BPTT_KERNELS_BEGIN

#if defined(BPTT_DUAL)

// A backward pass over dual numbers shows nothing.
template <class Backend>
struct Tracer {
  mutable Index chunk_row = 0;
  template <class... Args>
  BPTT_INLINE explicit Tracer(const Args&...) {}
  using T = typename Backend::T;
  static constexpr bool on() { return false; }
  static constexpr T* h_of(Index, Index = 0) { return nullptr; }
  static constexpr T* c_of(Index, Index = 0) { return nullptr; }
  static constexpr bool mixes_c() { return false; }
  template <class... Args>
  BPTT_INLINE void take_h(const Args&...) const {}
  template <class... Args>
  BPTT_INLINE void measure(const Args&...) const {}
  template <class... Args>
  BPTT_INLINE void copy(const Args&...) const {}
};

#else

template <class T, int w = 1>
BPTT_INLINE T sum_of_lanes(Native<T> v) {
  if constexpr (w < int(lanes<T>))
    return sum_of_lanes<T, 2 * w>(Exchange<T, w>::low(v, v) + Exchange<T, w>::high(v, v));
  else
    return v[0];
}

// Lane i of the result is the sum of the lanes of rows[i].
template <class T, int w = 1>
BPTT_INLINE Native<T> sums_of_lanes(Native<T> (&rows)[lanes<T>]) {
  if constexpr (w < int(lanes<T>)) {
    BPTT_UNROLL for (int i = 0; i < int(lanes<T>); i += 2 * w) rows[i] =
        Exchange<T, w>::low(rows[i], rows[i + w]) + Exchange<T, w>::high(rows[i], rows[i + w]);
    return sums_of_lanes<T, 2 * w>(rows);
  } else {
    return rows[0];
  }
}

using Wide = double __attribute__((vector_size(2 * BPTT_VECTOR_BYTES)));  // of a vector of floats

// n numbers of one row, in blocks `stride` apart.
template <class T>
struct RowOf {
  const T* base;
  Index stride, n;

  BPTT_INLINE Native<T> block(Index j) const {
    return load(base + j * stride, used_lanes<T>(j, n));
  }
  BPTT_INLINE T at(Index i) const { return base[i / lanes<T> * stride + i % lanes<T>]; }

  // The Euclidean norm, for numbers of any size. In double, squares of floats neither vanish nor
  // overflow nor become subnormal; doubles are taken relative to the largest.
  __attribute__((noinline)) double norm() const {
    if constexpr (sizeof(T) == sizeof(double)) {
      const double largest = largest_size();
      if (largest == 0 || !__builtin_isfinite(largest)) return largest;
      Native<double> sums{};
      for (Index j = 0; j < blocks_of<T>(n); ++j) {
        const Native<double> v = block(j) / broadcast(largest);
        sums += v * v;
      }
      return largest * __builtin_sqrt(sum_of_lanes<double>(sums));
    } else {
      Native<double> sums{}, halves[2];
      for (Index j = 0; j < blocks_of<T>(n); ++j) {
        const Wide wide = __builtin_convertvector(block(j), Wide);
        __builtin_memcpy(halves, &wide, sizeof wide);
        sums += halves[0] * halves[0] + halves[1] * halves[1];
      }
      return __builtin_sqrt(sum_of_lanes<double>(sums));
    }
  }
  // May miss a NaN, which the sum of squares then shows.
  double largest_size() const {
    Native<T> sizes{};
    for (Index j = 0; j < blocks_of<T>(n); ++j) {
      const Native<T> v = block(j), size = v < Native<T>{} ? -v : v;
      sizes = size <= sizes ? sizes : size;
    }
    T largest = 0;
    for (Index l = 0; l < lanes<T>; ++l)
      if (!(sizes[l] <= largest)) largest = sizes[l];
    return largest;
  }
  // -1: all are finite.
  Index first_not_finite() const {
    for (Index i = 0; i < n; ++i)
      if (!__builtin_isfinite(at(i))) return i;
    return -1;
  }
  void copy(T* to) const {
    for (Index j = 0; j < blocks_of<T>(n); ++j)
      store(to + j * lanes<T>, load(base + j * stride), used_lanes<T>(j, n));
  }
};

// Bounds of a sum of squares in T: between them no square that matters has vanished or overflowed.
template <class T>
struct Squares;
template <>
struct Squares<float> {
  static constexpr float start = 0x1p-125f, least = 0x1p-96f, most = 0x1p120f;
};
template <>
struct Squares<double> {
  static constexpr double start = 0x1p-1021, least = 0x1p-960, most = 0x1p1000;
};

template <class T>
BPTT_INLINE bool in_bounds(T square) {
  return square > Squares<T>::least && square < Squares<T>::most;
}
template <class T>
BPTT_INLINE bool all_in_bounds(Native<T> squares) {
  const auto inside =
      (squares > broadcast(Squares<T>::least)) & (squares < broadcast(Squares<T>::most));
  std::int64_t parts[sizeof inside / sizeof(std::int64_t)], all = -1;
  __builtin_memcpy(parts, &inside, sizeof inside);
  BPTT_UNROLL for (std::int64_t part : parts) all &= part;
  return all == -1;
}

BPTT_INLINE F64 square_roots(F64 v) {
#if BPTT_VECTOR_BYTES == 64
  return _mm512_sqrt_pd(v);
#elif BPTT_VECTOR_BYTES == 32
  return _mm256_sqrt_pd(v);
#elif defined(__SSE2__)
  return _mm_sqrt_pd(v);
#else
  BPTT_UNROLL for (Index l = 0; l < lanes<double>; ++l) v[l] = __builtin_sqrt(v[l]);
  return v;
#endif
}
BPTT_INLINE void square_roots(F64 squares, double* out) { store(out, square_roots(squares)); }
BPTT_INLINE void square_roots(F32 squares, double* out) {
  const auto wide = __builtin_convertvector(squares, Wide);
  F64 halves[2];
  __builtin_memcpy(halves, &wide, sizeof wide);
  square_roots(halves[0], out), square_roots(halves[1], out + lanes<double>);
}

// The rows of any cell with G gates and S gradients of a unit, of its sums first; `x_first` is the
// number of the first sum with x.
template <class T>
struct TracedRows {
  static constexpr Index L = lanes<T>;
  const int G, S, sums, x_first;
  const int* x_gates;
  const bool has_c;
  const BackwardCall<T>& call;
  const Rows& rows;
  const T* dvalues;  // of the chunk, [block][row][gradient][lane]
  T *dh, *dc;        // of the chunk, [block][row][lane]
  mutable Index chunk_row = 0;

  bool on() const { return call.trace.norms; }
  // Does zoneout mix the state c after h was made of it?
  bool mixes_c() const { return call.extras.zoneout[1] || call.extras.zoneout_of_all[1] != 0; }

  // Where the gradients of a block of h and c in row `row` of all stand; null without a trace. The
  // next row is one vector further, the next block chunk_rows vectors.
  T* h_of(Index row, Index j = 0) const { return kept(dh, row, j); }
  T* c_of(Index row, Index j = 0) const { return kept(dc, row, j); }
  BPTT_INLINE void take_h(Index j, Index row, Vec<T> v) const {
    if (T* to = h_of(row, j)) store(to, v.v);
  }

  // Writes the norms, and the place of the first value that is not finite, of rows `mine` of the
  // chunk.
  void measure(Range mine) const {
    constexpr int most = smaller(at_once, 6);
    const int all = G + 1 + has_c;
    for (int k = 0; k < all; k += at_once)
      static_int<most>(smaller(at_once, all - k), [&](auto n) BPTT_INLINED {
        constexpr int some = n.value;
        const Index states = k ? 0 : 1 + has_c;
        static_int<3>(states + 1, [&](auto m) BPTT_INLINED {
          constexpr int near = m.value - 1;
          if constexpr (occur(some, near)) measure<some, near>(mine, k);
        });
      });
  }

  // Copies the gradients themselves, of rows `mine` of step t, and the operands of w_hh, [R, U]
  // after each step and [B, U] before the first, and of the second product, [row of the step, H] or
  // null.
  void copy(Index t, Range mine, const T* after, const T* before_first, const T* second) const {
    const Dims& d = call.dims;
    const StepRows step_rows(rows, d.T, t);
    for (Index r = mine.begin; r < mine.end; ++r) {
      const Index row = rows.first[t] + r, in_chunk = row - chunk_row;
      of_column(0, in_chunk).copy(call.trace.dh + row * d.P);
      if (has_c) of_column(1, in_chunk).copy(call.trace.dc + row * d.H);
      for (int k = 0; k < G; ++k)
        of_column(2 + k, in_chunk).copy(call.trace.gates + (row * G + k) * d.H);
      if (sums > G) of_sum(sums - 1, in_chunk).copy(call.trace.candidate_hh + row * d.H);
      const T* operand = r < step_rows.continuing
                             ? after + (rows.first[step_rows.previous] + r) * d.U
                             : before_first + r * d.U;
      copy_row(operand, d.U, call.trace.operand + row * d.U);
      if (second) copy_row(second + r * d.H, d.H, call.trace.second_operand + row * d.H);
    }
  }

 private:
  T* kept(T* base, Index row, Index j) const {
    return on() ? base + (j * rows.chunk_rows + row - chunk_row) * L : nullptr;
  }

  static constexpr int at_once = smaller(L, 8);  // columns
  // Do `some` columns, `near` of which are states, occur at once? A cell has two to six columns,
  // the plain cells two, four and six, and with more than four c is among them: see Tracer.
  static constexpr bool occur(int some, int near) {
    for (int all = 2; all <= 6; all += BPTT_MANY_CELLS ? 1 : 2)
      for (int k = 0; k < all; k += at_once)
        if (some == smaller(at_once, all - k) && near == (k ? 0 : 1 + (all > 4))) return true;
    return false;
  }
  // The squares of several rows are summed at once, in a vector for each column of each row: as
  // many rows as a vector has lanes for, where each takes `columns` lanes.
  template <int some>
  static constexpr int columns = smaller(L, 2 << ((some > 2) + (some > 4)));
  template <int some>
  static constexpr int together = int(L) / columns<some>;

  // The number of the n-th column that the cell has: 0 is h, 1 is c, the gates follow.
  int number(int n) const { return n > 0 && !has_c ? n + 1 : n; }

  // `some` columns from the k-th on, the first `near` of which, h and c, have one number for each
  // unit; the others, which are sums, have S.
  template <int some, int near>
  BPTT_INLINE void measure(Range mine, int k) const {
    const Dims& d = call.dims;
    const T* all[some];
    BPTT_UNROLL for (int c = 0; c < some; ++c) all[c] = of_column(number(k + c), 0).base;
    // h of a layer that projects has another size, and is measured with care: meanwhile c stands
    // for it.
    const bool projects = near && d.P != d.H;
    if (near > 1 && projects) all[0] = all[some > 1];
    const Index width = columns<some>, count = together<some>;
    for (Index row = mine.begin; row < mine.end; row += count) {
      const Index n = smaller(count, mine.end - row);
      const Native<T> squares = sums_of_squares<some, near>(all, row, n);
      double roots[L];
      square_roots(squares, roots);
      double* out = call.trace.norms + (chunk_row + row) * (G + 4);
      for (Index r = 0; r < n; ++r, out += G + 4) {
        BPTT_UNROLL for (int c = 0; c < some; ++c) out[number(k + c)] = roots[r * width + c];
        if (!has_c) out[1] = 0;
      }
      if (projects || !all_in_bounds<T>(squares)) remeasure(k, some, width, row, n, squares);
    }
  }
  // Lane r * columns + c of the result has the sum of column c and row r; other lanes have any that
  // is in bounds.
  template <int some, int near>
  BPTT_INLINE Native<T> sums_of_squares(const T* const (&all)[some], Index row, Index n) const {
    constexpr int count = together<some>;
    const Index next[] = {L, S * L};  // from row to row
    Index others[2][count];           // rows that there are not are the first again
    BPTT_UNROLL for (int r = 0; r < count; ++r) BPTT_UNROLL for (int i = 0; i < 2; ++i)
        others[i][r] = r < n ? r * next[i] : 0;
    const T* from[some];
    BPTT_UNROLL for (int c = 0; c < some; ++c) from[c] = all[c] + row * next[c >= near];
    Native<T> sums[L];
    BPTT_UNROLL for (int i = 0; i < int(L); ++i) sums[i] =
        broadcast(i % columns<some> < some ? Squares<T>::start : T(1));
    const auto add = [&](const auto& block) BPTT_INLINED {
      BPTT_UNROLL for (int c = 0; c < some; ++c) BPTT_UNROLL for (int r = 0; r < count; ++r) {
        const Native<T> v = block(from[c] + others[c >= near][r]);
        sums[r * columns<some> + c] += v * v;
      }
    };
    Index left = call.dims.H;
    for (; left >= L; left = counted(left) - L) {
      add([](const T* p) BPTT_INLINED { return load(p); });
      BPTT_UNROLL for (int c = 0; c < some; ++c) from[c] += rows.chunk_rows * next[c >= near];
    }
    if (left > 0) add([&](const T* p) BPTT_INLINED { return load(p, left); });
    return sums_of_lanes<T>(sums);
  }
  // Measures with care what sums of squares, as of sums_of_squares(), do not give.
  __attribute__((noinline, cold)) void remeasure(int k, int some, Index width, Index row, Index n,
                                                 const Native<T>& squares) const {
    for (Index i = 0; i < n * width; ++i) {
      const int c = static_cast<int>(i % width);
      if (c >= some) continue;
      const int to = number(k + c);
      const RowOf<T> column = of_column(to, row + i / width);
      if (column.n != call.dims.H || !in_bounds<T>(squares[i]))
        measure_with_care(column, to, call.trace.norms + (chunk_row + row + i / width) * (G + 4));
    }
  }
  // Numbers of any size, also not finite, and the shorter rows of a layer that projects.
  void measure_with_care(const RowOf<T>& row, int k, double* out) const {
    double *place = out + G + 3, norm = row.norm();
    out[k] = norm;
    if (__builtin_isfinite(norm) || *place != 0) return;
    const Index of_c = has_c ? call.dims.H : 0, before[] = {0, call.dims.P, call.dims.P + of_c};
    const Index start = k < 2 ? before[k] : before[2] + (k - 2) * call.dims.H;
    *place = static_cast<double>(1 + start + row.first_not_finite());
  }

  // The gradients whose norms are column k, from a row of the chunk on.
  RowOf<T> of_column(int k, Index row) const {
    const Index step = rows.chunk_rows * L;
    if (k == 0) return {dh + row * L, step, call.dims.P};
    if (k == 1) return {dc + row * L, step, call.dims.H};
    int gate = 0;
    while (x_gates[gate] != k - 2) ++gate;
    return of_sum(x_first + gate, row);
  }
  RowOf<T> of_sum(int k, Index row) const {
    return {dvalues + (row * S + k) * L, rows.chunk_rows * S * L, call.dims.H};
  }
  static void copy_row(const T* from, Index n, T* to) {
    __builtin_memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
  }
};

template <class Backend>
struct Tracer : TracedRows<typename Backend::T> {
  using T = typename Backend::T;
  using Cell = typename Backend::Cell;
  using Own = EquationsOf<Cell>;
  static constexpr bool has_c = Cell::states > 1;
  static_assert(has_c == (Cell::gates + has_c > 3), "see measure()");
  Tracer(const BackwardCall<T>& c, const Rows& r, const T* dvalues, T* dh, T* dc)
      : TracedRows<T>{Cell::gates,
                      GradientsOf<Cell>::all,
                      Own::sums,
                      Own::x_first,
                      Cell::x_gates,
                      has_c,
                      c,
                      r,
                      dvalues,
                      dh,
                      dc} {}
};

#endif  // BPTT_DUAL

BPTT_KERNELS_END
