// SPDX-License-Identifier: MIT
// Control of the gradient inside BPTT: clips the gradient that is passed one step back, and cuts
// it.
#pragma once
#include "kernels/step/zoneout_skip.inl"

BPTT_KERNELS_BEGIN

// An array [block][row][part][lane] of one step.
template <class T>
struct StepGradients {
  T* base;
  Index block_size, row_size;  // in vectors
  BPTT_INLINE T* at(Index j, Index row, Index part) const {
    return base + (j * block_size + row * row_size + part) * lanes<T>;
  }
};

// For any cell with these numbers of states and gates.
template <class T>
struct StepClipper {
  const BackwardCall<T>& call;
  T* const (&dstates)[max_states];  // [block][B][lane]
  const SkipGradients<T>& skips;
  int states, gates;
  static constexpr Index L = lanes<T>;
  using Wide = typename Simd<T>::Wide;

  // Clips and cuts the gradients that rows r of step t passed back.
  void bound_states(Index t, Range r) const {
    const StepClip& step_clip = call.step_clip;
    const int q = step_clip.target == StepClip::c ? 1 : 0;
    if (step_clip.kind != StepClip::none && step_clip.target != StepClip::gates)
      clip(t, {dstates[q], call.dims.B, 1}, width(q), 1, r);
    for (Index row = r.begin; row < r.end && call.steps_left; ++row)
      if ((call.steps_left[row] + (call.rows.reverse ? t : -t)) % call.cut == 0) cut_row(row);
  }
  // The width of state q.
  Index width(int q) const { return q ? call.dims.H : call.dims.P; }
  void cut_row(Index row) const {
    for (int q = 0; q < states; ++q)
      for (Index j = 0; j < blocks_of<T>(width(q)); ++j)
        store(dstates[q] + (j * call.dims.B + row) * L, Native<T>{});
    for (Index k = 0; k < skips.skip; ++k)
      for (Index j = 0; j < skips.blocks; ++j) store(skips.at(k, j, row), Native<T>{});
  }

  // Clips `parts` numbers of each of n units, in rows r of step t.
  void clip(Index t, const StepGradients<T>& g, Index n, Index parts, Range r) const {
    for (Index row = r.begin; row < r.end; ++row) {
      const bool changed = call.step_clip.kind == StepClip::norm ? clip_norm(g, n, parts, row)
                                                                 : clip_value(g, n, parts, row);
      if (changed && call.trace.norms)
        call.trace.norms[(call.rows.first[t] + row) * (gates + 4) + gates + 2] = 1;
    }
  }
  // Both return whether they changed anything.
  bool clip_value(const StepGradients<T>& g, Index n, Index parts, Index row) const {
    const T bound = T(call.step_clip.bound);
    bool changed = false;
    for (Index j = 0; j < blocks_of<T>(n); ++j)
      for (Index i = 0; i < parts; ++i) {
        T* p = g.at(j, row, i);
        for (Index l = 0; l < used_lanes<T>(j, n) && call.trace.norms; ++l)
          changed |= __builtin_fabs(value_of(p[l])) > value_of(bound);
        store(p, maximum(-broadcast(bound), minimum(broadcast(bound), load(p))));
      }
    return changed;
  }

  // Computed in double and relative to the largest element, so that squares of large floats stay
  // finite, and without the padding. A gradient that is not finite stays as it is.
  bool clip_norm(const StepGradients<T>& g, Index n, Index parts, Index row) const {
    const auto each = [&](const auto& f) {
      for (Index j = 0; j < blocks_of<T>(n); ++j)
        for (Index i = 0; i < parts; ++i)
          for (Index l = 0; l < used_lanes<T>(j, n); ++l) f(g.at(j, row, i)[l]);
    };
    double largest = 0;
    Wide sum = 0;
    each([&](T v) { largest = __builtin_fmax(largest, __builtin_fabs(value_of(v))); });
    if (!(largest > 0)) return false;
    each([&](T v) {
      const Wide scaled = static_cast<Wide>(v) / largest;
      sum += scaled * scaled;
    });
    const Wide root = square_root(sum);
    const double bound = call.step_clip.bound;
    if (!(largest * value_of(root) > bound)) return false;
    const bool far = bound / largest < 0x1p-1000;  // where one factor for both would vanish
    const Wide unit = bound / root, factor = far ? Wide(0) : bound / largest / root;
    each([&](T& v) {
      const Wide wide = static_cast<Wide>(v);
      v = T(far ? wide / largest * unit : wide * factor);
    });
    return true;
  }
};

BPTT_KERNELS_END
