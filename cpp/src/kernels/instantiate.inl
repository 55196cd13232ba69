// SPDX-License-Identifier: MIT
// Included once by each targets/*.cpp, which defines BPTT_ISA, BPTT_ISA_NAME and BPTT_VECTOR_BYTES:
// the kernels of the plain cells in float and double; with BPTT_OTHERS those of all other cells,
// with BPTT_DUAL those of all in dual numbers. Everything but the table is internal to that file: a
// function that two instruction sets shared would be merged by the linker, and an old CPU would
// meet new instructions in it. So no standard-library templates and no static objects in here.
#include <cstdint>
#if defined(__SSE2__)
// GCC 12 calls its own _mm512_undefined_ps() uninitialised (GCC bug 105593).
#pragma GCC diagnostic push
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

#include "kernels/interface.hpp"

namespace bptt::core::BPTT_ISA {
namespace {

// Rows of a register tile, four vectors wide: what the registers hold beside a row of weights and a
// broadcast.
#if defined(BPTT_DUAL)  // a pair of registers for each
constexpr int max_rows = BPTT_VECTOR_BYTES == 64 ? 2 : 1;
#elif BPTT_VECTOR_BYTES == 64 || defined(__aarch64__)
constexpr int max_rows = 6;
#elif BPTT_VECTOR_BYTES == 32
constexpr int max_rows = 3;
#else
constexpr int max_rows = 2;
#endif

#include "kernels/vector/vectors.inl"
#include "kernels/vector/math.inl"
#include "kernels/vector/transpose.inl"
#if defined(BPTT_DUAL)
#include "kernels/vector/dual.inl"
#endif
// math first: the cells call it
#include "cells/cell_list.inl"
#include "kernels/arena.inl"
#include "kernels/product/microkernel.inl"
#include "kernels/work_share.inl"
#include "kernels/product/weight_layout.inl"
#include "kernels/time/tape.inl"
#include "kernels/product/row_runs.inl"
#include "kernels/step/zoneout_skip.inl"
#include "kernels/step/step_clip.inl"
#if defined(BPTT_BF16)
#include "kernels/product/bf16_tiles.inl"
#include "kernels/product/bf16_products.inl"
#else
#include "kernels/product/float_products.inl"
#endif
#if !defined(BPTT_BF16) && !defined(BPTT_DUAL) && !defined(BPTT_OTHERS)
#include "kernels/product/peak.inl"
#endif
#include "kernels/time/forward_workspace.inl"
#include "kernels/time/layer_norm.inl"
#include "kernels/time/forward.inl"
#include "kernels/time/backward_workspace.inl"
#if !defined(BPTT_DUAL)
#include "kernels/step/trace.inl"
#endif
#include "kernels/time/second_product.inl"
#include "kernels/time/layer_norm_backward.inl"
#include "kernels/time/backward.inl"
#include "kernels/step/read_gates.inl"

template <class P>
std::size_t weights_bytes(const Dims& d) {
  return typename P::Weights(nullptr, d).bytes;
}
template <class P>
std::size_t tape_bytes(const Dims& d, const Rows& rows) {
  return Tape<P>(nullptr, d, rows).bytes;
}
template <class P>
std::size_t forward_scratch_bytes(const Dims& d, Index rows) {
  return ForwardScratch<P>(nullptr, d, rows).bytes;
}
template <class P>
std::size_t backward_scratch_bytes(const Dims& d, const Rows& rows, Index skip, bool traced) {
  return BackwardScratch<P>(nullptr, d, rows, skip, traced).bytes;
}
template <class P>
bool forward(const ForwardCall<typename P::T>& call, const Team& team) {
  const Tape<P> tape(call.tape, call.dims, call.rows);
  return Forward<P>(call, team, tape.last, false).run();
}
template <class P>
bool backward(const BackwardCall<typename P::T>& call, const Team& team) {
  return Backward<P>(call, team).run();
}

// Of cells with options the loops are compiled for size: their time goes into the products, which
// are functions of their own.
template <class P>
__attribute__((cold, noinline)) bool small_forward(const ForwardCall<typename P::T>& call,
                                                   const Team& team) {
  return forward<P>(call, team);
}
template <class P>
__attribute__((cold, noinline)) bool small_backward(const BackwardCall<typename P::T>& call,
                                                    const Team& team) {
  return backward<P>(call, team);
}

template <class P>
constexpr CellKernels<typename P::T> kernels_of = {
    P::Cell::name,
    P::Cell::gates,
    P::Cell::states,
    EquationsOf<typename P::Cell>::params,
    truncated<typename P::Cell> ? P::Cell::states - 1 : 1,
    (EquationsOf<typename P::Cell>::sums > P::Cell::gates),
    P::Cell::inner,
    normal<typename P::Cell> ? (normal_state<typename P::Cell> ? 4 : 2) : 0,
    weights_bytes<P>,
    tape_bytes<P>,
    forward_scratch_bytes<P>,
    backward_scratch_bytes<P>,
    pack<P>,
    P::Cell::general ? small_forward<P> : forward<P>,
    P::Cell::general ? small_backward<P> : backward<P>,
    P::Cell::names,
    read<P>,
    P::Cell::values,
#if defined(BPTT_DUAL)
    nullptr};
#else
    count_outside<P>};
#endif

// A file that defines BPTT_BF16 has the products in bfloat16 instead of those in the precision of
// the results.
#if defined(BPTT_BF16)
#define BPTT_KERNELS(Cell) kernels_of<InBf16<Cell>>,
constexpr CellKernels<float> bf16_kernels[] = {BPTT_PLAIN_CELLS(BPTT_KERNELS)};
#else
#define BPTT_KERNELS(Cell) kernels_of<Exact<T, Cell>>,
template <class T>
constexpr CellKernels<T> cell_kernels[] = {BPTT_CELLS(BPTT_KERNELS)};
#endif

#define BPTT_COUNT(Cell) +1
constexpr KernelTable constant_table = {BPTT_ISA_NAME, 0 BPTT_CELLS(BPTT_COUNT),
#if defined(BPTT_BF16)
                                        nullptr, nullptr, bf16_kernels
#elif defined(BPTT_DUAL)
                                        nullptr, nullptr, nullptr, cell_kernels<Dual>
#elif defined(BPTT_OTHERS)
                                            cell_kernels<float>, cell_kernels<double>
#else
                                            cell_kernels<float>, cell_kernels<double>, nullptr,
                                            nullptr, multiply_adds
#endif
};

}  // namespace

#if defined(BPTT_DUAL)
#define BPTT_TABLE duals
#elif defined(BPTT_OTHERS)
#define BPTT_TABLE others
#else
#define BPTT_TABLE table
#endif
extern const KernelTable BPTT_TABLE;
const KernelTable BPTT_TABLE = constant_table;

}  // namespace bptt::core::BPTT_ISA
