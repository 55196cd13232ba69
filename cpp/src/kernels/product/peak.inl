// SPDX-License-Identifier: MIT
// What the multiply-add units can do: sums that wait for nothing but themselves, in registers.
#pragma once
#include "kernels/vector/vectors.inl"

namespace bptt::core::BPTT_ISA {
namespace {

// As many as the kernels' register tile has, but enough to fill units of two a cycle and a latency
// of six.
constexpr int chains = 4 * max_rows > 12 ? 4 * max_rows : 12;

// `steps` multiply-adds in each lane of each chain; *out depends on all of them. Returns the
// floating-point operations. A product that no other chain shares and that changes in each step:
// the compiler finds nothing to compute only once.
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

}  // namespace
}  // namespace bptt::core::BPTT_ISA
