// SPDX-License-Identifier: MIT
// What the backward pass shows of itself: of each row (a step of a sequence) the norms of the
// gradients that reach its states and gates, taken from a chunk while it is hot.

template <class T, int w = 1>
BPTT_INLINE T sum_of_lanes(Native<T> v) {
  if constexpr (w < int(lanes<T>))
    return sum_of_lanes<T, 2 * w>(Exchange<T, w>::low(v, v) + Exchange<T, w>::high(v, v));
  else
    return v[0];
}

// n numbers of one row, in blocks `stride` apart.
template <class T>
struct RowOf {
  const T* base;
  Index stride, n;

  BPTT_INLINE Native<T> block(Index j) const {
    return load(base + j * stride, used_lanes<T>(j, n));
  }
  BPTT_INLINE T at(Index i) const { return base[i / lanes<T> * stride + i % lanes<T>]; }

  // In double: there squares of floats neither vanish nor overflow, nor are they subnormal.
  BPTT_INLINE static Native<double> squares(Native<T> v) {
    if constexpr (sizeof(T) == sizeof(double)) {
      return v * v;
    } else {
      using Wide = double __attribute__((vector_size(2 * BPTT_VECTOR_BYTES)));
      const Wide wide = __builtin_convertvector(v, Wide);
      Native<double> halves[2];
      __builtin_memcpy(halves, &wide, sizeof wide);
      return halves[0] * halves[0] + halves[1] * halves[1];
    }
  }
  BPTT_INLINE double norm() const {
    const Index whole = n / lanes<T>;
    Native<double> sums{};
    if (n > whole * lanes<T>) sums = squares(block(whole));
    for (Index j = 0; j < whole; ++j) sums += squares(load(base + j * stride));
    const double sum = sum_of_lanes<double>(sums);
    if constexpr (sizeof(T) == sizeof(double))
      if (sum < 1e-280 || sum > 1e280) return scaled_norm();
    return __builtin_sqrt(sum);
  }
  // Relative to the largest: where squares vanish or overflow.
  __attribute__((noinline)) double scaled_norm() const {
    Native<T> sizes{};
    for (Index j = 0; j < blocks_of<T>(n); ++j) {
      const Native<T> v = block(j), size = v < Native<T>{} ? -v : v;
      sizes = size <= sizes ? sizes : size;
    }
    double largest = 0;
    for (Index l = 0; l < lanes<T>; ++l)
      if (const double size = static_cast<double>(sizes[l]); !(size <= largest)) largest = size;
    if (largest == 0 || !__builtin_isfinite(largest)) return largest;
    const Native<T> unit = broadcast(T(largest));
    Native<T> sums{};
    for (Index j = 0; j < blocks_of<T>(n); ++j) {
      const Native<T> v = block(j) / unit;
      sums += v * v;
    }
    return largest * __builtin_sqrt(static_cast<double>(sum_of_lanes<T>(sums)));
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

template <class P>
struct Tracer {
  using T = typename P::T;
  using Cell = typename P::Cell;
  static constexpr Index L = lanes<T>;
  using Own = EquationsOf<Cell>;
  static constexpr int S = GradientsOf<Cell>::all, G = Cell::gates, columns = G + 4;
  const BackwardCall<T>& call;
  const Rows& rows;
  const T* dvalues;  // of the chunk, [block][row][gradient][lane]
  T *dh, *dc;        // of the chunk, [block][row][lane]
  mutable Index chunk_row = 0;

  bool on() const { return call.trace.norms; }

  // Of a row of all: what the loop has at hand before and after the equations.
  BPTT_INLINE void take_h(Index j, Index row, Vec<T> v) const {
    if (on()) store(dh + (j * rows.chunk_rows + row - chunk_row) * L, v.v);
  }
  BPTT_INLINE void take_c(Index j, Index row, Vec<T> v) const {
    if (on()) store(dc + (j * rows.chunk_rows + row - chunk_row) * L, v.v);
  }

  // Rows `mine` of step t.
  void step(Index t, Range mine, const Tape<P>& tape, const Forward<P>& forward) const {
    const Dims& d = call.dims;
    const StepRows step_rows(rows, d.T, t);
    for (Index r = mine.begin; r < mine.end; ++r) {
      const Index row = rows.first[t] + r, in_chunk = row - chunk_row;
      const auto sum = [&](int k) {
        return RowOf<T>{dvalues + (in_chunk * S + k) * L, rows.chunk_rows * S * L, d.H};
      };
      RowOf<T> parts[G + 2];
      parts[0] = {dh + in_chunk * L, rows.chunk_rows * L, d.P};
      parts[1] = {dc + in_chunk * L, rows.chunk_rows * L, Cell::states > 1 ? d.H : 0};
      for (int k = 0; k < G; ++k) parts[2 + Cell::x_gates[k]] = sum(Own::x_first + k);
      measure(parts, d, call.trace.norms + row * columns);
      if (!call.trace.dh) continue;
      parts[0].copy(call.trace.dh + row * d.P);
      if (Cell::states > 1) parts[1].copy(call.trace.dc + row * d.H);
      for (int k = 0; k < G; ++k) parts[2 + k].copy(call.trace.gates + (row * G + k) * d.H);
      if (Own::sums > G) sum(Own::sums - 1).copy(call.trace.apart + row * d.H);
      copy_operands(row, r, step_rows, tape, forward);
    }
  }

 private:
  static void measure(const RowOf<T>* parts, const Dims& d, double* norms) {
    Index before = 1;
    for (int k = 0; k < G + 2; ++k) {
      norms[k] = parts[k].norm();
      const Index place = __builtin_isfinite(norms[k]) ? -1 : parts[k].first_not_finite();
      if (place >= 0 && norms[G + 3] == 0) norms[G + 3] = static_cast<double>(before + place);
      before += k ? d.H : d.P;
    }
  }
  static void copy_row(const T* from, Index n, T* to) {
    __builtin_memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
  }
  void copy_operands(Index row, Index r, const StepRows& step, const Tape<P>& tape,
                     const Forward<P>& forward) const {
    const Dims& d = call.dims;
    const T *after = d.masked ? tape.masked.h : call.y,
            *before_first = d.masked ? tape.masked.h0 : tape.h0;
    const T* operand = r < step.continuing ? after + (rows.first[step.previous] + r) * d.U
                                           : before_first + r * d.U;
    copy_row(operand, d.U, call.trace.operand + row * d.U);
    if constexpr (Cell::inner)
      copy_row(forward.values.inner + (row - forward.states.segment_row) * d.H, d.H,
               call.trace.inner + row * d.H);
  }
};
