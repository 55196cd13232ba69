// SPDX-License-Identifier: MIT
// The backward step of cells with a second product (Cell::second_product). Forward, the first
// equations give an operand, and h is made of
//   results = w operand,
// where w is [P, H]. Backward, the equations of the second product come first, then the product
// with w, then the first equations, which give the gradients of the remaining sums.
#pragma once
#include "kernels/product/row_runs.inl"
#include "kernels/step/trace.inl"
#include "kernels/time/backward_workspace.inl"

BPTT_KERNELS_BEGIN

template <class Backend>
struct SecondProductBackward<Backend, true> {
  using T = typename Backend::T;
  using Cell = typename Backend::Cell;
  using Second = typename Cell::SecondProduct;
  using Products = typename Backend::template BackwardOf<Second>;
  using Side = HSide<Second>;
  static constexpr int S = GradientsOf<Cell>::products;
  static constexpr Index L = lanes<T>;
  const BackwardCall<T>& call;
  const Dims& d;
  const Rows& rows;
  const Tape<Backend>& tape;
  const BackwardWorkspace<Backend>& scratch;
  const Range units, outputs;  // this rank's blocks of the operand, of the results
  T* const dsums;              // [block][row in chunk][S][lane]
  T* const dresults;           // [block of h][row in chunk][lane]
  const Tracer<Backend>& tracer;
  const Products products;

  // The second product, seen as the product with h of a cell of P units.
  static Dims as_cell(Dims d) {
    const Index H = d.H;
    d.I = 0, d.H = d.P, d.P = d.U = H;
    return d;
  }
  static std::size_t scratch_bytes(const Dims& d, const Rows& rows) {
    return Products::scratch_bytes(as_cell(d), rows);
  }
  SecondProductBackward(const BackwardCall<T>& c, const Tape<Backend>& t,
                        const BackwardWorkspace<Backend>& s, Range unit_blocks, Range output_blocks,
                        T* sums, int group, const Tracer<Backend>& trace, StopPoll& poll)
      : call(c),
        d(c.dims),
        rows(c.rows),
        tape(t),
        scratch(s),
        units(unit_blocks),
        outputs(output_blocks),
        dsums(sums),
        dresults(s.dresults + group * blocks_of<T>(d.P) * L * rows.chunk_rows),
        tracer(trace),
        products(as_cell(d), rows, dresults, s.second_products, group, poll) {}

  T* dresult(Index j, Index row) const { return dresults + (j * rows.chunk_rows + row) * L; }

  // The equations of the second product, for rows `mine` of step t, which begins with row `first`
  // of the chunk: gradients of the results, of the sums that only these equations use, and of the
  // old h through them.
  void step(Index t, Index first, Range mine, const Forward<Backend>& forward) const {
    const StepRows step(rows, d.T, t);
    const Index middle = larger(mine.begin, smaller(mine.end, step.continuing));
    const T* h = step.continuing ? call.y + rows.first[step.previous] * d.P : nullptr;
    for (Index j = outputs.begin; j < outputs.end; ++j) {
      step_units(t, j, first, {mine.begin, middle}, h, forward);
      step_units(t, j, first, {middle, mine.end}, tape.h0, forward);
    }
  }
  void step_units(Index t, Index j, Index first, Range r, const T* h,
                  const Forward<Backend>& forward) const {
    const Index used = used_lanes<T>(j, d.P), column = j * L;
    const T* saved =
        forward.values.saved +
        ((rows.first[t] - forward.states.segment_row) * forward.blocks + j * rows.count[t]) *
            Cell::saved * L;
    BPTT_NO_UNROLL for (Index row = r.begin; row < r.end; ++row) {
      T* kept = scratch.dstates[0] + (j * d.B + row) * L;
      Vec<T> dh = gradient_of_h(call, kept, t, row, j), k[Second::saved + 1], da[S], h0(0), stays,
             dresult_, dh0;
      start_h(call, scratch.skips, t, row, j, dh, stays);
      tracer.take_h(j, rows.first[t] + row, dh + stays);
      BPTT_UNROLL for (int i = 0; i < Second::saved; ++i) k[i] =
          load(saved + (row * Cell::saved + i) * L);
      if (Second::takes_h) h0 = load(h + row * d.P + column, used);
      Second::backward(call.options, dh, k, h0, da, dresult_, dh0);
      clear_from<T>(dresult_.v, used);  // keep padding out of the products
      BPTT_UNROLL for (int i = S - Second::gives; i < S; ++i) clear_from<T>(da[i].v, used);
      store(dresult(j, first + row), dresult_.v);
      BPTT_UNROLL for (int i = S - Second::gives; i < S; ++i)
          store(dsum(j, first + row) + i * L, da[i].v);
      store(kept, (dh0 + stays).v);
    }
  }
  T* dsum(Index j, Index row) const { return dsums + (j * rows.chunk_rows + row) * S * L; }

  // From the gradients of all results to the gradient of the operand.
  void pass_back(Index first, Range r) const {
    products.template for_each_tile<Side>(
        {first + r.begin, first + r.end}, tape.w_second, d.H, units,
        [&](Index row, Index n_rows, Index column, Index width, const T* tile) {
          for (Index b = 0; b < width; ++b)
            for (Index i = 0; i < n_rows; ++i)
              store(scratch.doperand + ((column / L + b) * d.B + row - first + i) * L,
                    load(tile + (i * width + b) * L));
        });
  }

  // Takes the gradients of the results from the clipped gradients of the sums: they are the last
  // sum.
  void take_clipped(Index first, Range r) const {
    for (Index j = 0; j < blocks_of<T>(d.P); ++j)
      for (Index row = first + r.begin; row < first + r.end; ++row)
        store(dresult(j, row), load(dsum(j, row) + (S - 1) * L));
  }

  // Adds to inputs n of the gradient of the weights; for_each_step comes from
  // Backward::group_gradient.
  template <class ForEachStep>
  void add_weights(const ForEachStep& for_each_step, const Forward<Backend>& forward, Range n,
                   T* dw) const {
    for_each_runs<T>(
        d.H,
        [&](const auto& add) {
          for_each_step([&](Index t, const StepRows&, Range r, Index row) {
            const Index kept = rows.first[t] - forward.states.segment_row;
            add(forward.values.second_operand + (kept + r.begin) * d.H, row + r.begin,
                r.end - r.begin);
          });
        },
        [&](const RowRuns<T>& runs) { products.template add_weights<Side>(runs, d.H, n, dw); });
  }

  void unpack(const Team& team) const {
    if (!wants_second<Cell>(call.wanted)) return;
    unpack_by_unit<T, Side::count, unit_blocks<Second>>(
        Side::gates, scratch.dw_second(0), d.P, d.H, d.H,
        share_of(blocks_of<T>(d.P), unit_blocks<Second>, team),
        Second::projects ? call.dw_hr : call.dw_hh);
  }
};

BPTT_KERNELS_END
