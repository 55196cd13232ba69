// SPDX-License-Identifier: MIT
// Layer normalisation in a backward step (cells/layer_norm.inl). For n = N(a) with the standard
// deviation s,
//   da = (dn - mean(dn) - n mean(dn n)) / s,
// with means over the same numbers of a row as forward.
#pragma once
#include "kernels/step/trace.inl"
#include "kernels/time/backward_workspace.inl"

BPTT_KERNELS_BEGIN

// The gradient of a from dn, given the sums of dn and of dn n.
template <class T>
struct LayerNormGradient {
  Vec<T> level, along, inverse;
  LayerNormGradient(Vec<T> dn, Vec<T> dn_n, Index count, T inverse_deviation)
      : level(broadcast(total(dn) / T(static_cast<double>(count)))),
        along(broadcast(total(dn_n) / T(static_cast<double>(count)))),
        inverse(broadcast(inverse_deviation)) {}
  BPTT_INLINE Vec<T> of(Vec<T> dn, Vec<T> n, Index used) const {
    return padded_with_zeros((dn - level - n * along) * inverse, used);
  }
};

template <class Backend>
struct LayerNormBackward<Backend, true> {
  using T = typename Backend::T;
  using Cell = typename Backend::Cell;
  using Own = EquationsOf<Cell>;
  static constexpr int G = Cell::gates, S = Cell::sums, D = Cell::gradients;
  static constexpr Index L = lanes<T>;
  const BackwardCall<T>& call;
  const Dims& d;
  const Rows& rows;
  const Tape<Backend>& tape;
  const BackwardWorkspace<Backend>& scratch;
  const Index blocks;
  T *const dsums, *const dvalues;  // [block][row in chunk][S or D][lane]
  const Tracer<Backend>& tracer;

  LayerNormBackward(const BackwardCall<T>& c, const Tape<Backend>& t,
                    const BackwardWorkspace<Backend>& s, T* sums, T* values,
                    const Tracer<Backend>& trace)
      : call(c),
        d(c.dims),
        rows(c.rows),
        tape(t),
        scratch(s),
        blocks(blocks_of<T>(c.dims.H)),
        dsums(sums),
        dvalues(values),
        tracer(trace) {}

  // The saved values of one row of step t.
  struct Kept {
    const T *values, *moments;
    Index stride;  // between blocks
    Kept(const Forward<Backend>& forward, Index t, Index row)
        : stride(forward.rows.count[t] * Cell::saved * L) {
      const Index before = forward.rows.first[t] - forward.states.segment_row;
      values = forward.values.saved + (before * forward.blocks + row) * Cell::saved * L;
      moments = forward.values.moments + (before + row) * moments_of_row;
    }
    BPTT_INLINE const T* of(Index j) const { return values + j * stride; }
  };

  // For rows r of step t, which begins with row `first` of the chunk: from the gradient of h, or of
  // the second product's operand, to the gradient of c' through N(c'), in scratch.doperand.
  void states(Index t, Index first, Range r, const Forward<Backend>& forward) const {
    for (Index row = r.begin; row < r.end; ++row) {
      const Kept kept(forward, t, row);
      const Moments<T> m{kept.moments[3], kept.moments[4], kept.moments[2]};
      const auto normal_c = [&](Index j) {
        return normalised(m, kept.of(j) + Cell::c * L, used_lanes<T>(j, d.H));
      };
      Vec<T> sum(0), sum_along(0);
      for (Index j = 0; j < blocks; ++j) {
        const Vec<T> n = normal_c(j), dn = output(t, j, row, kept.of(j), n, first);
        store(doperand(j, row), dn.v);
        sum = sum + dn, sum_along = sum_along + dn * n;
      }
      const LayerNormGradient<T> gradient(sum, sum_along, d.H, m.inverse);
      for (Index j = 0; j < blocks; ++j)
        store(doperand(j, row),
              gradient.of(load(doperand(j, row)), normal_c(j), used_lanes<T>(j, d.H)).v);
    }
  }
  T* doperand(Index j, Index row) const { return scratch.doperand + (j * d.B + row) * L; }

  // Returns the gradient of N(c').
  BPTT_INLINE Vec<T> output(Index t, Index j, Index row, const T* kept, Vec<T> n,
                            Index first) const {
    const Index used = used_lanes<T>(j, d.H);
    Vec<T> p[Cell::params], k[Cell::saved], da[D], dh, stays;
    BPTT_UNROLL for (int i = 0; i < Cell::params; ++i) p[i] =
        load(tape.params + (j * Cell::params + i) * L);
    BPTT_UNROLL for (int i = 0; i < Cell::saved; ++i) k[i] = load(kept + i * L);
    BPTT_UNROLL for (int i = 0; i < D; ++i) da[i] = Vec<T>(0);
    if constexpr (Cell::second_product) {
      dh = load(doperand(j, row));
    } else {
      T* after = scratch.dstates[0] + (j * d.B + row) * L;
      dh = gradient_of_h(call, after, t, row, j);
      start_h(call, scratch.skips, t, row, j, dh, stays);
      tracer.take_h(j, rows.first[t] + row, dh + stays);
      store(after, stays.v);
    }
    const Vec<T> dn = Cell::output_gradient(call.options, p, dh, k, n, da);
    T* out = dvalues + (j * rows.chunk_rows + first + row) * D * L;
    BPTT_UNROLL for (int i = 0; i < D; ++i) if (i < Cell::dgains || i >= Cell::dgain_c)
        store(out + i * L, padded_with_zeros(da[i], used).v);
    return padded_with_zeros(dn, used);
  }

  // From the gradients of the cell's own sums to the gradients of the products and of the gains.
  void sums(Index t, Index first, Range r, const Forward<Backend>& forward) const {
    for (Index row = r.begin; row < r.end; ++row) {
      const Kept kept(forward, t, row);
      for (int window = 0; window < 2; ++window)
        this->window(kept, first + row, window, window ? Own::h_first : Own::x_first);
    }
  }
  void window(const Kept& kept, Index row, int window, int own) const {
    const auto normals = [&](Index j) { return kept.of(j) + window * G * L; };
    const auto out = [&](Index j) {
      return dsums + ((j * rows.chunk_rows + row) * S + window * G) * L;
    };
    Vec<T> sum(0), sum_along(0);
    for (Index j = 0; j < blocks; ++j) {
      const T *n = normals(j),
              *gains = tape.params + (j * Cell::params + Cell::gains + window * G) * L;
      T* values = dvalues + (j * rows.chunk_rows + row) * D * L;
      BPTT_UNROLL for (int g = 0; g < G; ++g) {
        const Vec<T> da = load(values + (own + g) * L), along = da * Vec<T>(load(n + g * L)),
                     gain = load(gains + g * L), dn = da * gain;
        store(values + (Cell::dgains + window * G + g) * L, along.v);
        store(out(j) + g * L, dn.v);
        sum = sum + dn, sum_along = sum_along + along * gain;
      }
    }
    const LayerNormGradient<T> gradient(sum, sum_along, G * d.H, kept.moments[window]);
    for (Index j = 0; j < blocks; ++j) BPTT_UNROLL for (int g = 0; g < G; ++g) {
        T* da = out(j) + g * L;
        store(da, gradient.of(load(da), load(normals(j) + g * L), used_lanes<T>(j, d.H)).v);
      }
  }
};

BPTT_KERNELS_END
