// SPDX-License-Identifier: MIT
// Included once by each targets/*.cpp: makes the table of kernels of one object, of the plain cells
// in float and double; with BPTT_OTHERS of all other cells, with BPTT_DUAL of all cells in dual
// numbers, with BPTT_BF16 of the plain cells with products in bfloat16, with BPTT_INT8 of the plain
// cells with weights of 8 bits, for inference.
#pragma once
#include "cells/cell_list.inl"
#include "kernels/entry.inl"
#include "kernels/step/read_gates.inl"
#include "kernels/time/backward.inl"
#if defined(BPTT_INT8)
#include "kernels/product/int8_products.inl"
#elif defined(BPTT_BF16)
#include "kernels/product/bf16_products.inl"
#else
#include "kernels/product/float_products.inl"
#endif
#if !defined(BPTT_BF16) && !defined(BPTT_INT8) && !defined(BPTT_DUAL) && !defined(BPTT_OTHERS)
#include "kernels/product/peak.inl"
#endif

namespace bptt::core::BPTT_ISA {
namespace {

template <class Backend>
bool forward(const ForwardCall<typename Backend::T>& call, const Team& team) {
  const Tape<Backend> tape({call.tape}, call.dims, call.rows);
  return Forward<Backend>(call, team, tape.last, false).run();
}
template <class Backend>
bool backward(const BackwardCall<typename Backend::T>& call, const Team& team) {
  return Backward<Backend>(call, team).run();
}

// The loops of cells with options are compiled for size: their time goes into the products, which
// are functions of their own.
template <class Backend>
__attribute__((cold, noinline)) bool small_forward(const ForwardCall<typename Backend::T>& call,
                                                   const Team& team) {
  return forward<Backend>(call, team);
}
template <class Backend>
__attribute__((cold, noinline)) bool small_backward(const BackwardCall<typename Backend::T>& call,
                                                    const Team& team) {
  return backward<Backend>(call, team);
}

template <class Backend>
constexpr CellKernels<typename Backend::T> kernels_of() {
  using Cell = typename Backend::Cell;
  using Equations = EquationsOf<Cell>;
  CellKernels<typename Backend::T> k{};
  k.name = Cell::name, k.names = Cell::names;
  k.gates = Cell::gates, k.states = Cell::states, k.params = Equations::params;
  k.values = Cell::values;
  k.operands = Cell::truncated ? Cell::states - 1 : 1;
  k.split_gate = Equations::sums > Cell::gates, k.second_product = Cell::second_product;
  k.layer_norms = Cell::layer_norm_c ? 4 : Cell::layer_norm ? 2 : 0;
  k.weights_bytes = [](const Dims& d) { return typename Backend::Weights(nullptr, d).bytes; };
  k.tape_bytes = [](const Dims& d, const Rows& rows) {
    return Tape<Backend>({nullptr}, d, rows).bytes;
  };
  k.forward_scratch_bytes = [](const Dims& d, Index rows) {
    return ForwardWorkspace<Backend>(nullptr, d, rows).bytes;
  };
  k.pack = Entry<pack<Backend>>::run;
  constexpr auto forth = Cell::general ? small_forward<Backend> : forward<Backend>;
  k.forward = Entry<forth>::run;
#if !defined(BPTT_INT8)
  k.backward_scratch_bytes = [](const Dims& d, const Rows& rows, Index skip, const Wanted& wanted) {
    return BackwardWorkspace<Backend>({nullptr}, d, rows, skip, wanted).bytes;
  };
  constexpr auto back = Cell::general ? small_backward<Backend> : backward<Backend>;
  k.backward = Entry<back>::run;
  k.read = Entry<read<Backend>>::run;
#endif
#if !defined(BPTT_DUAL) && !defined(BPTT_INT8)
  k.count_outside = Entry<count_outside<Backend>>::run;
#endif
  return k;
}

#if defined(BPTT_INT8)
#define BPTT_ENTRY(Cell) kernels_of<Int8Products<Cell>>(),
constexpr CellKernels<float> int8_kernels[] = {BPTT_CELLS(BPTT_ENTRY)};
#elif defined(BPTT_BF16)
#define BPTT_ENTRY(Cell) kernels_of<Bf16Products<Cell>>(),
constexpr CellKernels<float> bf16_kernels[] = {BPTT_CELLS(BPTT_ENTRY)};
#else
#define BPTT_ENTRY(Cell) kernels_of<FloatProducts<T, Cell>>(),
template <class T>
constexpr CellKernels<T> cell_kernels[] = {BPTT_CELLS(BPTT_ENTRY)};
#endif

constexpr KernelTable table_of_part() {
  KernelTable t{};
#define BPTT_COUNT(Cell) +1
  t.isa = BPTT_ISA_NAME, t.cells = 0 BPTT_CELLS(BPTT_COUNT);
#if defined(BPTT_INT8)
  t.int8 = int8_kernels;
#elif defined(BPTT_BF16)
  t.bf16 = bf16_kernels;
#elif defined(BPTT_DUAL)
  t.dual = cell_kernels<Dual>;
#else
  t.f32 = cell_kernels<float>, t.f64 = cell_kernels<double>;
#if !defined(BPTT_OTHERS)
  t.multiply_adds = multiply_adds;
#endif
#endif
  return t;
}
constexpr KernelTable constant_table = table_of_part();

}  // namespace

// The name of the table, as in targets/targets.inc.
#if defined(BPTT_INT8)
#define BPTT_PART int8
#elif defined(BPTT_BF16)
#define BPTT_PART bf16
#elif defined(BPTT_DUAL)
#define BPTT_PART duals
#elif defined(BPTT_OTHERS)
#define BPTT_PART others
#else
#define BPTT_PART plain
#endif
extern const KernelTable BPTT_PART;
const KernelTable BPTT_PART = constant_table;

}  // namespace bptt::core::BPTT_ISA
