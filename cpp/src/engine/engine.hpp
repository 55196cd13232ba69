// SPDX-License-Identifier: MIT
// What a call computes with: the cell, the sizes, the order of the steps, the pieces of the
// buffers, and the work of one rank. It owns nothing and never allocates, throws or waits for a
// lock.
#pragma once
#include <algorithm>
#include <limits>
#include <type_traits>

#include "core/arrays.hpp"
#include "engine/fingerprint.hpp"
#include "engine/gather_scatter.hpp"

namespace bptt::core {

#include "kernels/arena.inl"

static_assert(most_states == max_states, "the public header and the kernels agree");

// Does every size that the kernels compute stay far below the limits of its type?
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

// Of state q.
inline Index width_of(const Dims& d, int q) { return q ? d.H : d.P; }

// Of x and y, as the forward call left them.
struct Marks {
  std::uint64_t x, y;
};

template <class T>
struct Engine {
  const CellKernels<T>& cell;
  Options options;
  Dims given;        // the caller's
  Extras<T> extras;  // the caller's
  bool train, bf16;
  Index dilation;
  Parts parts;           // of the sequences
  const Index* lengths;  // of the sequences, where there are parts; null: T
  Dims dims;             // of the parts
  Schedule schedule;

  struct Given {
    Dims dims;
    Extras<T> extras;
    bool train, bf16, reverse;
    Index dilation;
    Parts parts;
    const Index* lengths;
  };
  Engine(const CellKernels<T>& kernels, const Options& o, const Given& g, const Schedule& order)
      : cell(kernels),
        options(o),
        given(g.dims),
        extras(g.extras),
        train(g.train),
        bf16(g.bf16),
        dilation(g.dilation),
        parts(g.parts),
        lengths(g.lengths),
        dims(of_parts(g)),
        schedule(order) {}

  // memory: Schedule::size(of_parts(g).T) numbers, which the engine then refers to.
  static Schedule scheduled(Index* memory, const CellKernels<T>& cell, const Given& g) {
    const Dims d = of_parts(g);
    return {memory, d, g.parts, g.reverse, group_count(cell, d, g.bf16), chunk_rows(cell, d)};
  }
  static Dims of_parts(const Given& g) {
    Dims d = g.dims;
    d.masked = g.extras.h_mask || d.U > d.P;
    if (g.parts.size) d.T = g.parts.longest, d.B = g.parts.size;
    return d;
  }
  // Are rows gathered from the caller's arrays and scattered back?
  bool rearranged() const { return parts.size > 0; }
  Rearrangement<T> rearrangement() const { return {given, parts, schedule}; }
  Index state_rows() const { return given.B * dilation; }
  Rows rows() const { return schedule.rows(); }
  Index total() const { return schedule.total; }

  // Two ranks that each take half the sequences need not exchange anything until the end, if each
  // sums its own weight gradients. That they are summed so must not depend on the number of ranks,
  // so it depends on the sizes: it pays while the gradients fit into a cache.
  static int group_count(const CellKernels<T>& cell, const Dims& d, bool bf16) {
    return d.B >= 8 && (bf16 || gradient_bytes(cell, d) <= (Index(1) << 20)) ? 2 : 1;
  }
  static Index gradient_bytes(const CellKernels<T>& cell, const Dims& d) {
    return cell.gates * d.H * (d.I + d.U) * Index(sizeof(T));
  }
  // Of the backward pass: enough to use each weight often, few enough for the cache. Gradients of
  // weights that come from memory are read and written once a chunk, and that costs more.
  static Index chunk_rows(const CellKernels<T>& cell, const Dims& d) {
    return gradient_bytes(cell, d) > (Index(16) << 20) ? 512 : 128;
  }

  Packs packs() const {
    if (bf16 || dims.T * dims.B > unpacked_rows) return Packs::all;
    return dims.T == 1 ? Packs::none : Packs::recurrent;
  }

  // --- the threads

  // Threads cost some microseconds a call, or, where they share the hidden units, some tenths of
  // one a step: below, they would not pay.
  int team_size(int most) const {
    constexpr double least_work = 1e6, least_step = 1e5;  // operations of one thread
    const double step = 2.0 * static_cast<double>(cell.gates * dims.H) *
                        static_cast<double>(dims.I + dims.U) * static_cast<double>(dims.B);
    const double work =
        step * static_cast<double>(total()) / static_cast<double>(dims.B ? dims.B : 1);
    const auto at_most = [&](double n) {
      return static_cast<int>(std::max(1.0, std::min(n, double(most))));
    };
    if (bf16) {  // each rank rounds the rows of its own sequences
      const int groups = static_cast<int>(schedule.groups);
      return most > 1 && by_sequence(groups) && work >= 2 * least_work ? groups : 1;
    }
    const int n = at_most(work / least_work);
    return by_sequence(n) ? n : at_most(std::min(work / least_work, step / least_step));
  }
  // Whole sequences for every rank if each has enough to fill its registers; but weights that come
  // from beyond a core's own cache in every step come there in parts, each to one rank.
  bool by_sequence(int ranks) const {
    return dims.B / ranks >= 4 && (bf16 || gradient_bytes(cell, dims) <= (Index(4) << 20));
  }

  // --- the buffers: what the kernels ask for, and sorted copies of the caller's arrays

  struct ExtraPieces {
    T *h_mask = nullptr, *zoneout[2] = {nullptr, nullptr};
    ExtraPieces() = default;
    ExtraPieces(const Engine& p, Pieces& pieces) {
      if (!p.rearranged()) return;
      if (p.extras.h_mask) h_mask = pieces.take<T>(p.dims.B * p.dims.P);
      for (int q = 0; q < 2; ++q)
        if (p.extras.zoneout[q]) zoneout[q] = pieces.take<T>(p.total() * width_of(p.dims, q));
    }
    // As the kernels take them.
    Extras<T> of(const Extras<T>& given) const {
      Extras<T> e = given;
      if (h_mask) e.h_mask = h_mask;
      for (int q = 0; q < 2; ++q)
        if (zoneout[q]) e.zoneout[q] = zoneout[q];
      return e;
    }
  };

  struct TapePieces {
    void *kernel, *weights = nullptr;
    T *x, *y;
    ExtraPieces extras;
    Marks* marks;
    std::size_t bytes;
    TapePieces(const Engine& p, void* buffer) {
      Pieces pieces{static_cast<char*>(buffer)};
      kernel = pieces.take<char>(static_cast<Index>(p.cell.tape_bytes(p.dims, p.rows())));
      if (p.rows().segments > 1)
        weights = pieces.take<char>(static_cast<Index>(p.cell.weights_bytes(p.dims)));
      x = p.rearranged() ? pieces.take<T>(p.total() * p.dims.I) : nullptr;
      y = p.rearranged() ? pieces.take<T>(p.total() * p.dims.P) : nullptr;
      if (p.train) extras = ExtraPieces(p, pieces);
      marks = pieces.take<Marks>(1);
      bytes = pieces.used;
    }
  };

  struct ForwardPieces {
    void *kernel, *weights;
    T *x = nullptr, *y = nullptr;
    ExtraPieces extras;
    T *state0[max_states], *state_n[max_states];
    std::size_t bytes;
    ForwardPieces(const Engine& p, void* buffer) {
      Pieces pieces{static_cast<char*>(buffer)};
      kernel =
          pieces.take<char>(static_cast<Index>(p.cell.forward_scratch_bytes(p.dims, p.total())));
      weights = pieces.take<char>(static_cast<Index>(p.cell.weights_bytes(p.dims)));
      if (p.rearranged() && !p.train) {
        x = pieces.take<T>(p.total() * p.dims.I);
        y = pieces.take<T>(p.total() * p.dims.P);
        extras = ExtraPieces(p, pieces);
      }
      for (int q = 0; p.rearranged() && q < p.cell.states; ++q) {
        state0[q] = pieces.take<T>(p.dims.B * width_of(p.dims, q));
        state_n[q] = pieces.take<T>(p.dims.B * width_of(p.dims, q));
      }
      bytes = pieces.used;
    }
  };

  struct BackwardPieces {
    void* kernel;
    T *dx, *dy;
    T *dstate_n[max_states], *dstate0[max_states];
    T *db_ih, *db_hh, *dparams;  // where the caller has none
    TraceCall<T> trace{};
    std::size_t bytes;
    BackwardPieces(const Engine& p, void* buffer, const Trace<T>& traced = {}) {
      Pieces pieces{static_cast<char*>(buffer)};
      kernel = pieces.take<char>(static_cast<Index>(
          p.cell.backward_scratch_bytes(p.dims, p.rows(), p.extras.skip, traced.norms)));
      dparams = pieces.take<T>(p.cell.params * p.dims.H);
      db_ih = pieces.take<T>(p.cell.gates * p.dims.H);
      db_hh = pieces.take<T>(p.cell.gates * p.dims.H);
      dx = p.rearranged() ? pieces.take<T>(p.total() * p.dims.I) : nullptr;
      dy = p.rearranged() ? pieces.take<T>(p.total() * p.dims.P) : nullptr;
      for (int q = 0; p.rearranged() && q < p.cell.states; ++q) {
        dstate_n[q] = pieces.take<T>(p.dims.B * width_of(p.dims, q));
        dstate0[q] = pieces.take<T>(p.dims.B * width_of(p.dims, q));
      }
      p.each_traced(trace, traced, [&](auto*& rows, auto* given, Index width) {
        rows = given;
        if (p.rearranged())
          rows = pieces.take<std::remove_reference_t<decltype(*rows)>>(p.total() * width);
      });
      bytes = pieces.used;
    }
  };

  // f(array of the kernels, array of the caller, width) for those that the caller wants.
  template <class F>
  void each_traced(TraceCall<T>& rows, const Trace<T>& given, const F& f) const {
    const Index G = cell.gates, H = dims.H;
    const auto one = [&](auto*& to, auto* from, Index width) {
      if (from) f(to, from, width);
    };
    one(rows.norms, given.norms, G + 4);
    one(rows.dh, given.dh, dims.P), one(rows.dc, given.dc, H);
    one(rows.gates, given.gates, G * H), one(rows.apart, given.apart, H);
    one(rows.operand, given.operand, dims.U), one(rows.inner, given.inner, H);
  }

  // A tape refers to the caller's x and y, unless it has their rows in another order. The forward
  // call ends with mark(); the backward call is wrong where changed() finds something.
  void mark(const TapePieces& kept, const T* x, const T* y) const {
    if (train && !rearranged()) *kept.marks = marks_of(x, y);
  }
  const char* changed(const TapePieces& kept, const T* x, const T* y) const {
    if (rearranged()) return nullptr;
    const Marks now = marks_of(x, y);
    return now.x != kept.marks->x ? "x" : now.y != kept.marks->y ? "y" : nullptr;
  }
  Marks marks_of(const T* x, const T* y) const {
    const auto bytes = [&](Index width) {
      return static_cast<std::size_t>(given.T * given.B * width) * sizeof(T);
    };
    return {fingerprint(x, bytes(given.I)), fingerprint(y, bytes(given.P))};
  }

  // --- the calls; `forward` and `backward` are one rank's part of them

  ForwardCall<T> forward_call(const Inputs<T>& in, const Outputs<T>& out, const TapePieces& kept,
                              const ForwardPieces& work) const {
    ForwardCall<T> call{};
    call.dims = dims, call.rows = rows(), call.options = options;
    call.x = in.x.data, call.w_ih = in.w_ih.data, call.w_hh = in.w_hh.data;
    call.w_hr = in.w_hr.data;
    call.b_ih = in.b_ih.data, call.b_hh = in.b_hh.data;
    call.extras = (train ? kept.extras : work.extras).of(extras);
    call.packs = packs();
    call.weights = kept.weights ? kept.weights : work.weights;
    call.y = out.y;
    call.tape = train ? kept.kernel : nullptr;
    call.scratch = work.kernel;
    for (int q = 0; q < cell.states; ++q)
      call.state0[q] = in.state[q].data, call.state_n[q] = out.state[q];
    if (!rearranged()) return call;
    call.x = train ? kept.x : work.x;
    call.y = train ? kept.y : work.y;
    for (int q = 0; q < cell.states; ++q) {
      call.state0[q] = in.state[q] ? work.state0[q] : nullptr;
      call.state_n[q] = work.state_n[q];
    }
    return call;
  }

  void forward(const Inputs<T>& in, const Outputs<T>& out, const ForwardCall<T>& call,
               const ForwardPieces& pieces, const Team& team, bool packed = false) const {
    const Rearrangement<T> rows = rearrangement();
    if (rearranged()) {
      rows.gather(in.x.data, dims.I, const_cast<T*>(call.x), team);
      gather_extras(rows, call.extras, team);
    }
    for (int q = 0; q < cell.states && rearranged() && team.rank == 0; ++q)
      if (in.state[q])
        rows.gather_states(in.state[q].data, width_of(dims, q), &Part::initial, pieces.state0[q]);
    const bool ready = packed ? team.size == 1 || team.wait(team.context) : cell.pack(call, team);
    if (!ready || !cell.forward(call, team) || !rearranged()) return;
    rows.scatter(call.y, dims.P, out.y, lengths, team);
    for (int q = 0; q < cell.states && team.rank == 0; ++q)
      rows.scatter_states(call.state_n[q], width_of(dims, q), &Part::final, state_rows(),
                          out.state[q]);
  }

  void gather_extras(const Rearrangement<T>& rows, const Extras<T>& to, const Team& team) const {
    for (int q = 0; q < 2; ++q)
      if (extras.zoneout[q])
        rows.gather(extras.zoneout[q], width_of(dims, q), const_cast<T*>(to.zoneout[q]), team);
    if (extras.h_mask && team.rank == 0)
      rows.gather_states(extras.h_mask, dims.P, &Part::b, const_cast<T*>(to.h_mask));
  }

  BackwardCall<T> backward_call(const T* x, const T* y, const Cotangents<T>& given,
                                const StepClip& clip, Index cut, const Index* left,
                                const Gradients<T>& out, const TapePieces& kept,
                                const BackwardPieces& work) const {
    BackwardCall<T> call{};
    call.dims = dims, call.rows = rows(), call.options = options;
    call.extras = kept.extras.of(extras);
    call.step_clip = clip, call.cut = cut, call.steps_left = left;
    call.x = x, call.y = y, call.tape = kept.kernel, call.weights = kept.weights;
    call.dy = given.y.data;
    call.dx = out.x, call.dw_ih = out.w_ih, call.dw_hh = out.w_hh, call.dw_hr = out.w_hr;
    call.db_ih = out.b_ih ? out.b_ih : work.db_ih;
    call.db_hh = out.b_hh ? out.b_hh : work.db_hh;
    call.dparams = out.peepholes ? out.peepholes : work.dparams;
    std::copy(out.layer_norm, out.layer_norm + 4, call.dlayer_norm);
    call.trace = work.trace;
    call.scratch = work.kernel;
    for (int q = 0; q < cell.states; ++q)
      call.dstate_n[q] = given.state[q].data, call.dstate0[q] = out.state[q];
    if (!rearranged()) return call;
    call.x = kept.x, call.y = kept.y, call.dx = out.x ? work.dx : nullptr;
    call.dy = given.y ? work.dy : nullptr;
    for (int q = 0; q < cell.states; ++q) {
      call.dstate_n[q] = given.state[q] ? work.dstate_n[q] : nullptr;
      call.dstate0[q] = work.dstate0[q];
    }
    return call;
  }

  void backward(const Cotangents<T>& cotangents, const Gradients<T>& out,
                const BackwardCall<T>& call, const BackwardPieces& pieces, const Team& team) const {
    const Rearrangement<T> rows = rearrangement();
    if (rearranged() && cotangents.y) rows.gather(cotangents.y.data, dims.P, pieces.dy, team);
    for (int q = 0; q < cell.states && rearranged() && team.rank == 0; ++q)
      if (cotangents.state[q])
        rows.gather_states(cotangents.state[q].data, width_of(dims, q), &Part::final,
                           pieces.dstate_n[q]);
    if (call.trace.norms && team.rank == 0)
      std::fill_n(call.trace.norms, total() * (cell.gates + 4), 0.0);
    const bool prepares = rearranged() || call.trace.norms;
    if (team.size > 1 && prepares && !team.wait(team.context)) return;
    if (!cell.backward(call, team) || !rearranged()) return;
    if (out.x) rows.scatter(pieces.dx, dims.I, out.x, lengths, team);
    TraceCall<T> traced = call.trace;
    each_traced(traced, out.trace, [&](auto* from, auto* to, Index width) {
      Rearrangement<std::remove_reference_t<decltype(*from)>>{given, parts, schedule}.scatter(
          from, width, to, lengths, team);
    });
    for (int q = 0; q < cell.states && team.rank == 0; ++q)
      rows.scatter_states(pieces.dstate0[q], width_of(dims, q), &Part::initial, state_rows(),
                          out.state[q]);
  }
};

}  // namespace bptt::core
