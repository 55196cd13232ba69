// SPDX-License-Identifier: MIT
// The work of one call: the cell, the sizes, the order of the steps, the layout of the buffers, and
// the part of one rank. An engine owns nothing and never allocates, throws or waits for a lock.
#pragma once
#include <algorithm>
#include <limits>
#include <type_traits>

#include "core/arrays.hpp"
#include "engine/fingerprint.hpp"
#include "engine/gather_scatter.hpp"
#include "kernels/arena.inl"

namespace bptt::core {

// Do all sizes that the kernels compute stay far below the limits of their types?
inline bool addressable(const Dims& d, int gates, std::size_t element) {
  for (Index n : {d.T, d.B, d.I, d.H, d.U})
    if (n > std::numeric_limits<Index>::max() / 8) return false;
  const Index factors[] = {d.T + 1, d.B + 1, d.H + d.I + d.U + 64, 16 * gates};
  Index tape = static_cast<Index>(element), weights = tape;
  bool overflow = false;
  for (Index f : factors) overflow = overflow || __builtin_mul_overflow(tape, f, &tape);
  for (Index f : {d.H + 64, d.H + d.I + d.U + 64, Index(16 * gates)})
    overflow = overflow || __builtin_mul_overflow(weights, f, &weights);
  return !overflow;
}

// The width of state q.
inline Index width_of(const Dims& d, int q) { return q ? d.H : d.P; }

// Fingerprints of x and y after the forward call.
struct Marks {
  std::uint64_t x, y;
};

// The call on these inputs, without the memory of its results.
template <class T>
ForwardCall<T> forward_call(const Dims& dims, const Options& options, const Inputs<T>& in) {
  ForwardCall<T> call{};
  call.dims = dims, call.options = options;
  call.x = in.x.data, call.w_ih = in.w_ih.data, call.w_hh = in.w_hh.data;
  call.w_hr = in.w_hr.data, call.b_ih = in.b_ih.data, call.b_hh = in.b_hh.data;
  for (int q = 0; q < max_states; ++q) call.state0[q] = in.state[q].data;
  return call;
}

template <class T>
struct Engine {
  struct Given {
    Dims dims;                            // the caller's, and the machine's caches
    StepExtras<T> extras;                 // the caller's
    bool train, rounds = false, reverse;  // rounds: the operands of the products
    Index dilation = 1;
    bool reset_row = false;  // have the initial states a row more, of the state after a reset?
    Subsequences subsequences;
    const Index* lengths = nullptr;  // [B], where the sequences are split; null: T
    void* packed = nullptr;  // weights_bytes, which CellKernels::pack has filled and the call does
                             // not change; null: the call packs its weights

    // As the kernels see them.
    Dims split_dims() const {
      Dims d = dims;
      d.separate_operand = extras.h_mask || d.U > d.P;
      if (subsequences.size) d.T = subsequences.longest, d.B = subsequences.size;
      return d;
    }
  };
  const CellKernels<T>& cell;
  Options options;
  Given given;
  Dims dims;  // of the subsequences
  Schedule schedule;

  Engine(const CellKernels<T>& kernels, const Options& o, const Given& g, const Schedule& order)
      : cell(kernels), options(o), given(g), dims(g.split_dims()), schedule(order) {}

  // memory: [Schedule::size(g.split_dims().T)], to which the schedule then refers.
  static Schedule scheduled(Index* memory, const CellKernels<T>& cell, const Given& g) {
    const Dims d = g.split_dims();
    return {
        memory, d, g.subsequences, g.reverse, group_count(cell, d, g.rounds), chunk_rows(cell, d)};
  }
  // Are rows gathered from the caller's arrays and scattered back?
  bool gathers() const { return given.subsequences.size > 0; }
  template <class U = T>
  GatherScatter<U> gather_scatter() const {
    return {given.dims, given.subsequences, schedule};
  }
  Rows rows() const { return schedule.rows(); }
  Index total() const { return schedule.total; }

  // Two ranks that each take half the sequences exchange nothing until the end if each sums its own
  // weight gradients. The order of the sums must not depend on the number of ranks, so the number
  // of groups depends on the sizes: two pay while the gradients fit into a cache.
  static int group_count(const CellKernels<T>& cell, const Dims& d, bool rounds) {
    return d.B >= 8 && (rounds || gradient_bytes(cell, d) <= (Index(1) << 20)) ? 2 : 1;
  }
  static Index gradient_bytes(const CellKernels<T>& cell, const Dims& d) {
    return cell.gates * d.H * (d.I + d.U) * Index(sizeof(T));
  }
  // Rows of a chunk of the backward pass: enough to use each weight often, few enough for the
  // cache. Weight gradients too large for it are read and written once a chunk, so chunks are
  // longer.
  static Index chunk_rows(const CellKernels<T>& cell, const Dims& d) {
    return gradient_bytes(cell, d) > (Index(16) << 20) ? 512 : 128;
  }

  Packs packs() const {
    if (given.packed || given.rounds || dims.T * dims.B > unpacked_rows) return Packs::all;
    return dims.T == 1 ? Packs::none : Packs::recurrent;
  }

  // --- the threads

  // Threads cost some microseconds a call, or some tenths of a microsecond a step where they share
  // the hidden units: below these amounts of work they would not pay.
  int team_size(int most) const {
    constexpr double least_work = 1e6, least_step = 1e5;  // operations of one thread
    const double step = 2.0 * static_cast<double>(cell.gates * dims.H) *
                        static_cast<double>(dims.I + dims.U) * static_cast<double>(dims.B);
    const double work =
        step * static_cast<double>(total()) / static_cast<double>(dims.B ? dims.B : 1);
    const auto at_most = [&](double n) {
      return static_cast<int>(std::max(1.0, std::min(n, double(most))));
    };
    if (given.rounds) {  // each rank rounds the rows of its own sequences
      const int groups = static_cast<int>(schedule.groups);
      return most > 1 && by_sequence(groups) && work >= 2 * least_work ? groups : 1;
    }
    const int n = at_most(work / least_work);
    return by_sequence(n) ? n : at_most(std::min(work / least_work, step / least_step));
  }
  // Does each rank take whole sequences? Yes if it has enough to fill its registers. But weights
  // much larger than a core's own cache are split among the ranks.
  bool by_sequence(int ranks) const {
    return dims.B / ranks >= 4 &&
           (given.rounds || gradient_bytes(cell, dims) <= 2 * dims.caches.second);
  }

  // --- the layout of the buffers: memory of the kernels, and sorted copies of the caller's arrays

  struct ExtrasLayout {
    T *h_mask = nullptr, *zoneout[2] = {nullptr, nullptr};
    ExtrasLayout() = default;
    ExtrasLayout(const Engine& p, Arena& arena) {
      if (!p.gathers()) return;
      if (p.given.extras.h_mask) h_mask = arena.take<T>(p.dims.B * p.dims.P);
      for (int q = 0; q < 2; ++q)
        if (p.given.extras.zoneout[q]) zoneout[q] = arena.take<T>(p.total() * width_of(p.dims, q));
    }
    // The caller's options with the sorted copies in place of its arrays.
    StepExtras<T> of(const StepExtras<T>& given) const {
      StepExtras<T> e = given;
      if (h_mask) e.h_mask = h_mask;
      for (int q = 0; q < 2; ++q)
        if (zoneout[q]) e.zoneout[q] = zoneout[q];
      return e;
    }
  };

  struct TapeLayout {
    void *kernel, *weights = nullptr;
    T *x, *y;
    ExtrasLayout extras;
    Marks* marks;
    std::size_t bytes;
    TapeLayout(const Engine& p, void* buffer) {
      Arena arena{buffer};
      kernel = arena.take<char>(static_cast<Index>(p.cell.tape_bytes(p.dims, p.rows())));
      if (p.rows().segments > 1)
        weights = arena.take<char>(static_cast<Index>(p.cell.weights_bytes(p.dims)));
      x = p.gathers() ? arena.take<T>(p.total() * p.dims.I) : nullptr;
      y = p.gathers() ? arena.take<T>(p.total() * p.dims.P) : nullptr;
      if (p.given.train) extras = ExtrasLayout(p, arena);
      marks = arena.take<Marks>(1);
      bytes = arena.used;
    }
  };

  struct ForwardLayout {
    void *kernel, *weights;
    T *x = nullptr, *y = nullptr;
    ExtrasLayout extras;
    T *state0[max_states], *state_n[max_states];
    std::size_t bytes;
    ForwardLayout(const Engine& p, void* buffer) {
      Arena arena{buffer};
      kernel =
          arena.take<char>(static_cast<Index>(p.cell.forward_scratch_bytes(p.dims, p.total())));
      weights = p.given.packed;
      if (!weights) weights = arena.take<char>(static_cast<Index>(p.cell.weights_bytes(p.dims)));
      if (p.gathers() && !p.given.train) {
        x = arena.take<T>(p.total() * p.dims.I);
        y = arena.take<T>(p.total() * p.dims.P);
        extras = ExtrasLayout(p, arena);
      }
      for (int q = 0; p.gathers() && q < p.cell.states; ++q) {
        state0[q] = arena.take<T>(p.dims.B * width_of(p.dims, q));
        state_n[q] = arena.take<T>(p.dims.B * width_of(p.dims, q));
      }
      bytes = arena.used;
    }
  };

  struct BackwardLayout {
    void* kernel;
    T *dx, *dy;
    T *dstate_n[max_states], *dstate0[max_states]{};
    Trace<T> trace{};
    std::size_t bytes;
    BackwardLayout(const Engine& p, void* buffer, const Wanted& wanted,
                   const Trace<T>& traced = {}) {
      Arena arena{buffer};
      kernel = arena.take<char>(static_cast<Index>(
          p.cell.backward_scratch_bytes(p.dims, p.rows(), p.given.extras.skip, wanted)));
      dx = p.gathers() && wanted.x ? arena.take<T>(p.total() * p.dims.I) : nullptr;
      dy = p.gathers() ? arena.take<T>(p.total() * p.dims.P) : nullptr;
      for (int q = 0; p.gathers() && q < p.cell.states; ++q) {
        dstate_n[q] = arena.take<T>(p.dims.B * width_of(p.dims, q));
        if (wanted.state0[q]) dstate0[q] = arena.take<T>(p.dims.B * width_of(p.dims, q));
      }
      p.for_each_traced(trace, traced, [&](auto*& rows, auto* given, Index width) {
        rows = given;
        if (p.gathers())
          rows = arena.take<std::remove_reference_t<decltype(*rows)>>(p.total() * width);
      });
      bytes = arena.used;
    }
  };

  // f(array of the kernels, array of the caller, width) for the arrays that the caller wants.
  template <class F>
  void for_each_traced(Trace<T>& rows, const Trace<T>& given, const F& f) const {
    const Index G = cell.gates, H = dims.H;
    const auto one = [&](auto*& to, auto* from, Index width) {
      if (from) f(to, from, width);
    };
    one(rows.norms, given.norms, G + 4);
    one(rows.dh, given.dh, dims.P), one(rows.dc, given.dc, H);
    one(rows.gates, given.gates, G * H), one(rows.candidate_hh, given.candidate_hh, H);
    one(rows.operand, given.operand, dims.U), one(rows.second_operand, given.second_operand, H);
  }

  // A tape refers to the caller's x and y, unless it has their rows in another order. A forward
  // call ends with mark(); changed() names the array that is not as it was.
  void mark(const TapeLayout& kept, const T* x, const T* y) const {
    if (given.train && !gathers()) *kept.marks = marks_of(x, y);
  }
  const char* changed(const TapeLayout& kept, const T* x, const T* y) const {
    if (gathers()) return nullptr;
    const Marks now = marks_of(x, y);
    return now.x != kept.marks->x ? "x" : now.y != kept.marks->y ? "y" : nullptr;
  }
  Marks marks_of(const T* x, const T* y) const {
    const auto bytes = [&](Index width) {
      return static_cast<std::size_t>(given.dims.T * given.dims.B * width) * sizeof(T);
    };
    return {fingerprint(x, bytes(dims.I)), fingerprint(y, bytes(dims.P))};
  }

  // --- the calls; forward() and backward() are one rank's part of them

  ForwardCall<T> forward_call(const Inputs<T>& in, const Outputs<T>& out, const TapeLayout& kept,
                              const ForwardLayout& work) const {
    ForwardCall<T> call = bptt::core::forward_call(dims, options, in);
    call.rows = rows(), call.packs = packs();
    call.extras = (given.train ? kept.extras : work.extras).of(given.extras);
    call.weights = kept.weights && !given.packed ? kept.weights : work.weights;
    call.y = out.y;
    call.tape = given.train ? kept.kernel : nullptr;
    call.scratch = work.kernel;
    for (int q = 0; q < cell.states; ++q) call.state_n[q] = out.state[q];
    if (!gathers()) return call;
    call.x = given.train ? kept.x : work.x;
    call.y = given.train ? kept.y : work.y;
    for (int q = 0; q < cell.states; ++q) {
      call.state0[q] = in.state[q] ? work.state0[q] : nullptr;
      call.state_n[q] = work.state_n[q];
    }
    return call;
  }

  void forward(const Inputs<T>& in, const Outputs<T>& out, const ForwardCall<T>& call,
               const ForwardLayout& work, const Team& team) const {
    const GatherScatter<T> rows = gather_scatter();
    if (gathers()) {
      rows.gather(in.x.data, dims.I, const_cast<T*>(call.x), team);
      gather_extras(rows, call.extras, team);
    }
    for (int q = 0; q < cell.states && gathers() && team.rank == 0; ++q)
      if (in.state[q])
        rows.gather_states(in.state[q].data, width_of(dims, q), &Subsequence::initial,
                           work.state0[q]);
    const bool ready =
        given.packed ? team.size == 1 || team.wait(team.context) : cell.pack(call, team);
    if (!ready || !cell.forward(call, team) || !gathers()) return;
    rows.scatter(call.y, dims.P, out.y, given.lengths, team);
    for (int q = 0; q < cell.states && team.rank == 0; ++q)
      rows.scatter_states(call.state_n[q], width_of(dims, q), &Subsequence::final,
                          given.dims.B * given.dilation, out.state[q]);
  }

  void gather_extras(const GatherScatter<T>& rows, const StepExtras<T>& to,
                     const Team& team) const {
    for (int q = 0; q < 2; ++q)
      if (given.extras.zoneout[q])
        rows.gather(given.extras.zoneout[q], width_of(dims, q), const_cast<T*>(to.zoneout[q]),
                    team);
    if (given.extras.h_mask && team.rank == 0)
      rows.gather_states(given.extras.h_mask, dims.P, &Subsequence::b, const_cast<T*>(to.h_mask));
  }

  void scatter_initial(const GatherScatter<T>& rows, const T* from, Index width, T* to) const {
    const Index B = given.dims.B;
    rows.scatter_states(from, width, &Subsequence::initial, B * given.dilation, to);
    if (given.reset_row) rows.add_states(from, width, &Subsequence::initial, B, to + B * width);
  }

  // Without a step clip or cuts.
  BackwardCall<T> backward_call(const T* x, const T* y, const Cotangents<T>& cotangents,
                                const Gradients<T>& out, const TapeLayout& kept,
                                const BackwardLayout& work) const {
    BackwardCall<T> call{};
    call.dims = dims, call.rows = rows(), call.options = options;
    call.wanted = wanted_of(out);
    call.extras = kept.extras.of(given.extras);
    call.x = x, call.y = y, call.tape = kept.kernel, call.weights = kept.weights;
    call.dy = cotangents.y.data;
    call.dx = out.x, call.dw_ih = out.w_ih, call.dw_hh = out.w_hh, call.dw_hr = out.w_hr;
    call.db_ih = out.b_ih, call.db_hh = out.b_hh, call.dparams = out.peepholes;
    std::copy(out.layer_norm, out.layer_norm + 4, call.dlayer_norm);
    call.trace = work.trace;
    call.scratch = work.kernel;
    for (int q = 0; q < cell.states; ++q)
      call.dstate_n[q] = cotangents.state[q].data, call.dstate0[q] = out.state[q];
    if (!gathers()) return call;
    call.x = kept.x, call.y = kept.y, call.dx = work.dx;
    call.dy = cotangents.y ? work.dy : nullptr;
    for (int q = 0; q < cell.states; ++q) {
      call.dstate_n[q] = cotangents.state[q] ? work.dstate_n[q] : nullptr;
      call.dstate0[q] = work.dstate0[q];
    }
    return call;
  }

  void backward(const Cotangents<T>& cotangents, const Gradients<T>& out,
                const BackwardCall<T>& call, const BackwardLayout& work, const Team& team) const {
    const GatherScatter<T> rows = gather_scatter();
    if (gathers() && cotangents.y) rows.gather(cotangents.y.data, dims.P, work.dy, team);
    for (int q = 0; q < cell.states && gathers() && team.rank == 0; ++q)
      if (cotangents.state[q])
        rows.gather_states(cotangents.state[q].data, width_of(dims, q), &Subsequence::final,
                           work.dstate_n[q]);
    if (call.trace.norms && team.rank == 0)
      std::fill_n(call.trace.norms, total() * (cell.gates + 4), 0.0);
    const bool prepares = gathers() || call.trace.norms;
    if (team.size > 1 && prepares && !team.wait(team.context)) return;
    if (!cell.backward(call, team) || !gathers()) return;
    if (out.x) rows.scatter(work.dx, dims.I, out.x, given.lengths, team);
    Trace<T> traced = call.trace;
    for_each_traced(traced, out.trace, [&](auto* from, auto* to, Index width) {
      gather_scatter<std::remove_reference_t<decltype(*from)>>().scatter(from, width, to,
                                                                         given.lengths, team);
    });
    for (int q = 0; q < cell.states && team.rank == 0; ++q)
      if (out.state[q]) scatter_initial(rows, work.dstate0[q], width_of(dims, q), out.state[q]);
  }
};

}  // namespace bptt::core
