// SPDX-License-Identifier: MIT
// Measures the peak of the multiply-add units: sums in registers that depend on nothing but
// themselves.
#pragma once
#include "kernels/vector/vectors.inl"

BPTT_KERNELS_BEGIN

// As many as the kernels' register tile has, but enough for two units with a latency of six cycles.
constexpr int chains = 4 * max_rows > 12 ? 4 * max_rows : 12;

// Computes `steps` multiply-adds in each lane of each chain; *out depends on all of them. Returns
// the number of floating-point operations. No two chains or steps share a product, so the compiler
// cannot compute one once for several.
double multiply_adds(Index steps, float factor, float* out) {
  const F32 s = broadcast(factor);
  F32 acc[chains];
  BPTT_UNROLL for (int c = 0; c < chains; ++c) acc[c] = broadcast(factor * static_cast<float>(c));
  for (Index i = 0; i < steps; ++i)
    BPTT_UNROLL for (int c = 0; c < chains; ++c) acc[c] += s * acc[c];
  F32 sum = acc[0];
  BPTT_UNROLL for (int c = 1; c < chains; ++c) sum += acc[c];
  *out = 0;
  for (Index l = 0; l < lanes<float>; ++l) *out += sum[l];
  return 2.0 * static_cast<double>(steps) * chains * static_cast<double>(lanes<float>);
}

BPTT_KERNELS_END
