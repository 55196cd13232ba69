// SPDX-License-Identifier: MIT
// The memory of the backward loop.
#pragma once
#include "kernels/step/zoneout_skip.inl"
#include "kernels/time/forward_workspace.inl"

BPTT_KERNELS_BEGIN

// For cells with a second product only: see second_product.inl.
template <class Backend, bool = Backend::Cell::second_product>
struct SecondProductBackward {
  template <class... Args>
  explicit SecondProductBackward(const Args&...) {}
  static std::size_t scratch_bytes(const Dims&, const Rows&) { return 0; }
};
template <class Backend>
struct SecondProductBackward<Backend, true>;

// The results of a step that are wanted: gradients of the sums, or the gradient that a second
// product's operand passes to h.
enum class Results { sums, passed, all };

// Does the operand of a second product depend on h? And how many sums have their gradients from its
// equations?
template <class Cell>
constexpr bool second_takes_h() {
  if constexpr (Cell::second_product)
    return Cell::SecondProduct::takes_h;
  else
    return false;
}
template <class Cell>
constexpr int second_gives() {
  if constexpr (Cell::second_product)
    return Cell::SecondProduct::gives;
  else
    return 0;
}
// The number of gradients of a unit that the first equations give in a step.
template <class Cell>
constexpr int equations_give() {
  using Own = EquationsOf<Cell>;
  return Own::sums + Own::params - second_gives<Cell>();
}

// Are the gradients of a second product's weights wanted? They are part of w_hh, or w_hr.
template <class Cell>
bool wants_second(const Wanted& wanted) {
  if constexpr (Cell::second_product)
    return Cell::SecondProduct::projects ? wanted.w_hr : wanted.w_hh;
  else
    return false;
}

// For cells whose sums are normalised only: see layer_norm_backward.inl.
template <class Backend, bool = Backend::Cell::layer_norm>
struct LayerNormBackward {
  template <class... Args>
  explicit LayerNormBackward(const Args&...) {}
};
template <class Backend>
struct LayerNormBackward<Backend, true>;

template <class Backend>
struct BackwardWorkspace {
  using T = typename Backend::T;
  using Cell = typename Backend::Cell;
  static constexpr Index S = GradientsOf<Cell>::products, all = GradientsOf<Cell>::all;
  T* dsums;                // [group]: [block][chunk_rows][gradient][lane], see GradientsOf:
  T* dvalues;              // gradients of the products' sums, and all gradients; or the same array
  T* dstates[max_states];  // [block][B][lane]: the gradient that the previous step receives
  T* gradients;            // [group]: the wanted gradients of weights by unit, and of the biases
  Index weights, ih, hh, second;  // elements of a group, of w_ih, of w_hh, of the second product's
  T* dresults;  // [group]: [block of h][chunk_rows][lane]: of the second product's results
  T* doperand;  // [block][B][lane]: of its operand, or of N(c')
  T *traced_h, *traced_c;  // [group]: [block][chunk_rows][lane], or null
  SkipGradients<T> skips;
  void *products, *second_products;
  void* forward;  // ForwardWorkspace to compute a segment again
  SegmentTape<T, Cell> recomputed;
  std::size_t bytes;

  T* dw_ih(Index group) const { return gradients + group * weights; }
  T* dw_hh(Index group) const { return dw_ih(group) + ih; }
  T* dw_second(Index group) const { return dw_hh(group) + hh; }
  T* db(Index group) const { return dw_second(group) + second; }  // [block][gradient][lane]

  BackwardWorkspace(Arena arena, const Dims& d, const Rows& rows, Index skip, const Wanted& wanted)
      : recomputed(arena, d, rows.segments > 1 ? rows.segment_rows : 0) {
    const Index padded = blocks_of<T>(d.H) * lanes<T>;
    dsums = arena.take<T>(rows.groups * padded * S * rows.chunk_rows);
    dvalues =
        Cell::layer_norm ? arena.take<T>(rows.groups * padded * all * rows.chunk_rows) : dsums;
    const Index h_blocks = blocks_of<T>(d.P);
    for (int q = 0; q < Cell::states; ++q)
      dstates[q] = arena.take<T>(d.B * (q ? padded : h_blocks * lanes<T>));
    ih = hh = second = 0;
    if (wanted.w_ih) ih = unit_packed_size<T, XSide<Cell>>(d.H, Backend::padded_inputs(d.I));
    if (wanted.w_hh) hh = unit_packed_size<T, HSide<Cell>>(d.H, Backend::padded_inputs(d.U));
    if constexpr (Cell::second_product) {
      using Second = typename Cell::SecondProduct;
      if (wants_second<Cell>(wanted)) second = unit_packed_size<T, HSide<Second>>(d.P, d.H);
      dresults = arena.take<T>(rows.groups * h_blocks * lanes<T> * rows.chunk_rows);
    }
    doperand = later_h<Cell> ? arena.take<T>(d.B * padded) : nullptr;
    weights = ih + hh + second + (wanted.sums ? padded * all : 0);
    gradients = arena.take<T>(rows.groups * weights);
    traced_h =
        wanted.trace ? arena.take<T>(rows.groups * h_blocks * lanes<T> * rows.chunk_rows) : nullptr;
    traced_c = wanted.trace ? arena.take<T>(rows.groups * padded * rows.chunk_rows) : nullptr;
    skips = {arena.take<T>(SkipGradients<T>::size(skip, h_blocks, d.B)), skip, h_blocks, d.B};
    products = arena.take<char>(static_cast<Index>(Backend::Backward::scratch_bytes(d, rows)));
    second_products = arena.take<char>(
        static_cast<Index>(SecondProductBackward<Backend>::scratch_bytes(d, rows)));
    const std::size_t forward_bytes =
        rows.segments > 1 ? ForwardWorkspace<Backend>(nullptr, d, rows.total).bytes : 0;
    forward = arena.take<char>(static_cast<Index>(forward_bytes));
    bytes = arena.used;
  }
};

// The forward call that computes a segment again.
template <class T>
ForwardCall<T> forward_call(const BackwardCall<T>& call, void* scratch) {
  ForwardCall<T> f{};
  f.dims = call.dims, f.rows = call.rows, f.options = call.options, f.extras = call.extras;
  f.x = call.x, f.y = const_cast<T*>(call.y);
  f.weights = const_cast<void*>(call.weights), f.tape = const_cast<void*>(call.tape);
  f.scratch = scratch;
  return f;
}

BPTT_KERNELS_END
