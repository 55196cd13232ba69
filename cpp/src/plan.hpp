// SPDX-License-Identifier: MIT
// What one plan holds: the sizes, the order of the steps, the buffers, and the work of one rank.
#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "bptt/threads.hpp"
#include "dispatch.hpp"
#include "rearrange.hpp"
#include "team.hpp"

namespace bptt {
namespace {

#include "pieces.inl"

static_assert(most_states == max_states, "the public header and the kernels agree");

}  // namespace

template <class T>
struct Plan<T>::Impl {
  Spec spec;
  const CellKernels<T>& cell;
  Options options;
  Dims given;                  // the caller's
  Extras<T> extras;            // the caller's
  std::vector<Part> parts;     // of the sequences; empty: all as they are
  std::vector<Index> lengths;  // of the sequences; empty: T
  Dims dims;                   // of the parts
  Schedule schedule;

  Impl(const Spec& s, const Inputs<T>& in)
      : spec(s),
        cell(find_cell<T>(s, in)),
        options(options_of(s)),
        given(check_inputs(s, cell, in)),
        extras(extras_of(in)),
        parts(parts_of(in)),
        lengths(parts.empty() || !in.lengths
                    ? std::vector<Index>()
                    : std::vector<Index>(in.lengths.data, in.lengths.data + given.B)),
        dims(dims_of_parts()),
        schedule(dims, parts, s.reverse, groups(), chunk_rows()) {
    if (spec.train && spec.checkpoint != Spec::off) place_checkpoints();
  }

  std::vector<Part> parts_of(const Inputs<T>& in) const {
    if (!in.resets && spec.dilation == 1 && all_equal(in.lengths.data, given)) return {};
    return divide(given, {in.lengths.data, in.resets.data, spec.dilation, spec.reverse});
  }
  Extras<T> extras_of(const Inputs<T>& in) const {
    return {in.peepholes.data,
            in.h_mask.data,
            {in.zoneout[0].data, in.zoneout[1].data},
            {static_cast<T>(spec.zoneout[0]), static_cast<T>(spec.zoneout[1])},
            std::min(spec.skip / spec.dilation, given.T + 1),
            {in.layer_norm[0].data, in.layer_norm[1].data, in.layer_norm[2].data,
             in.layer_norm[3].data}};
  }
  Dims dims_of_parts() const {
    Dims d = given;
    d.masked = extras.h_mask || d.U > d.P;
    if (parts.empty()) return d;
    d.T = parts.front().length, d.B = static_cast<Index>(parts.size());
    return d;
  }
  // Steps of the part's sequence that are processed at its step 0 or later, see BackwardCall.
  std::vector<Index> steps_left() const {
    std::vector<Index> left(static_cast<std::size_t>(dims.B), spec.reverse ? 1 : dims.T);
    for (std::size_t r = 0; r < parts.size(); ++r)
      left[r] = parts[r].after + (spec.reverse ? 1 : parts[r].length);
    return left;
  }
  // Are rows gathered from the caller's arrays and scattered back?
  bool rearranged() const { return !parts.empty(); }
  Rearrangement<T> rearrangement() const { return {given, parts, schedule}; }
  Index state_rows() const { return given.B * spec.dilation; }

  // Two ranks that each take half the sequences need not exchange anything until the end, if each
  // sums its own weight gradients. That they are summed so must not depend on the number of ranks,
  // so it depends on the sizes: it pays while the gradients fit into a cache.
  int groups() const {
    return dims.B >= 8 && (spec.bf16 || gradient_bytes() <= (Index(1) << 20)) ? 2 : 1;
  }
  Index gradient_bytes() const {
    return cell.gates * dims.H * (dims.I + dims.U) * Index(sizeof(T));
  }
  // Of the backward pass: enough to use each weight often, few enough for the cache. Gradients of
  // weights that come from memory are read and written once a chunk, and that costs more.
  Index chunk_rows() const { return gradient_bytes() > (Index(16) << 20) ? 512 : 128; }

  static bool all_equal(const std::int64_t* lengths, const Dims& d) {
    return !lengths ||
           std::all_of(lengths, lengths + d.B, [&](std::int64_t length) { return length == d.T; });
  }

  void place_checkpoints() {
    const Index chunks = schedule.chunks();
    const auto bytes = [&](Index n) {
      schedule.cut(n);
      return TapePieces(*this, nullptr).bytes + BackwardPieces(*this, nullptr).bytes;
    };
    if (spec.checkpoint == Spec::sqrt) {
      Index n = 1;
      while (n * n < chunks) ++n;
      const std::size_t in_segments = bytes(n), whole = bytes(chunks);
      if (in_segments < whole) schedule.cut(n);  // unless the weights are more than the values
      return;
    }
    // The bytes rise with the length of the segments, but for very short ones; the shortest that is
    // of any use has as many chunks as there are segments.
    Index best = 0;
    std::size_t least = 0;
    for (Index n = std::max(chunks, Index(1)); n > 0; n = n == 1 ? 0 : (n + 1) / 2) {
      const std::size_t needed = bytes(n);
      if (needed <= spec.max_bytes) {
        best = n;
        break;
      }
      least = least ? std::min(least, needed) : needed;
    }
    if (!best)
      refuse(spec.caller, "max_bytes is " + std::to_string(spec.max_bytes) +
                              ", expected at least " + std::to_string(least));
    schedule.cut(best);
  }

  Packs packs() const {
    if (spec.bf16 || dims.T * dims.B > unpacked_rows) return Packs::all;
    return dims.T == 1 ? Packs::none : Packs::recurrent;
  }

  Rows rows() const { return schedule.rows(); }
  Index total() const { return schedule.total(); }

  // --- the threads

  // Threads cost some microseconds a call, or, where they share the hidden units, some tenths of
  // one a step: below, they would not pay.
  int team_size(int given) const {
    constexpr double least_work = 1e6, least_step = 1e5;  // operations of one thread
    const double step = 2.0 * static_cast<double>(cell.gates * dims.H) *
                        static_cast<double>(dims.I + dims.U) * static_cast<double>(dims.B);
    const double work =
        step * static_cast<double>(total()) / static_cast<double>(dims.B ? dims.B : 1);
    const int most = given ? given : threads();
    const auto at_most = [&](double n) {
      return static_cast<int>(std::max(1.0, std::min(n, double(most))));
    };
    if (spec.bf16)  // each rank rounds the rows of its own sequences
      return most > 1 && by_sequence(groups()) && work >= 2 * least_work ? groups() : 1;
    const int n = at_most(work / least_work);
    return by_sequence(n) ? n : at_most(std::min(work / least_work, step / least_step));
  }
  // Whole sequences for every rank if each has enough to fill its registers; but weights that come
  // from beyond a core's own cache in every step come there in parts, each to one rank.
  bool by_sequence(int ranks) const {
    return dims.B / ranks >= 4 && (spec.bf16 || gradient_bytes() <= (Index(4) << 20));
  }

  // --- the buffers: what the kernels ask for, and sorted copies of the caller's arrays

  struct ExtraPieces {
    T *h_mask = nullptr, *zoneout[2] = {nullptr, nullptr};
    ExtraPieces() = default;
    ExtraPieces(const Impl& p, Pieces& pieces) {
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
    std::size_t bytes;
    TapePieces(const Impl& p, void* buffer) {
      Pieces pieces{static_cast<char*>(buffer)};
      kernel = pieces.take<char>(static_cast<Index>(p.cell.tape_bytes(p.dims, p.rows())));
      if (p.rows().segments > 1)
        weights = pieces.take<char>(static_cast<Index>(p.cell.weights_bytes(p.dims)));
      x = p.rearranged() ? pieces.take<T>(p.total() * p.dims.I) : nullptr;
      y = p.rearranged() ? pieces.take<T>(p.total() * p.dims.P) : nullptr;
      if (p.spec.train) extras = ExtraPieces(p, pieces);
      bytes = pieces.used;
    }
  };

  struct ForwardPieces {
    void *kernel, *weights;
    T *x = nullptr, *y = nullptr;
    ExtraPieces extras;
    T *state0[max_states], *state_n[max_states];
    std::size_t bytes;
    ForwardPieces(const Impl& p, void* buffer) {
      Pieces pieces{static_cast<char*>(buffer)};
      kernel =
          pieces.take<char>(static_cast<Index>(p.cell.forward_scratch_bytes(p.dims, p.total())));
      weights = pieces.take<char>(static_cast<Index>(p.cell.weights_bytes(p.dims)));
      if (p.rearranged() && !p.spec.train) {
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
    BackwardPieces(const Impl& p, void* buffer, const Trace<T>& traced = {}) {
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

  // --- the calls; `work` is one rank's part of them

  template <class F>
  bool run(int most, StopRequest stop, const F& work) const {
    Lease threads(team_size(most));
    std::vector<Index> shares;
    if (threads.size() > 1 && by_sequence(threads.size()))
      shares = schedule.shares(dims.B, threads.size());
    return threads.run(stop, [&](Team team) {
      team.sequences = shares.empty() ? nullptr : shares.data();
      work(team);
    });
  }

  ForwardCall<T> forward_call(const Inputs<T>& in, const Outputs<T>& out, const TapePieces& kept,
                              const ForwardPieces& work) const {
    ForwardCall<T> call{};
    call.dims = dims, call.rows = rows(), call.options = options;
    call.x = in.x.data, call.w_ih = in.w_ih.data, call.w_hh = in.w_hh.data;
    call.w_hr = in.w_hr.data;
    call.b_ih = in.b_ih.data, call.b_hh = in.b_hh.data;
    call.extras = (spec.train ? kept.extras : work.extras).of(extras);
    call.packs = packs();
    call.weights = kept.weights ? kept.weights : work.weights;
    call.y = out.y;
    call.tape = spec.train ? kept.kernel : nullptr;
    call.scratch = work.kernel;
    for (int q = 0; q < cell.states; ++q)
      call.state0[q] = in.state[q].data, call.state_n[q] = out.state[q];
    if (!rearranged()) return call;
    call.x = spec.train ? kept.x : work.x;
    call.y = spec.train ? kept.y : work.y;
    for (int q = 0; q < cell.states; ++q) {
      call.state0[q] = in.state[q] ? work.state0[q] : nullptr;
      call.state_n[q] = work.state_n[q];
    }
    return call;
  }

  void forward(const Inputs<T>& in, const Outputs<T>& out, const ForwardCall<T>& call,
               const ForwardPieces& pieces, const Team& team) const {
    const Rearrangement<T> rows = rearrangement();
    if (rearranged()) {
      rows.gather(in.x.data, dims.I, const_cast<T*>(call.x), team);
      gather_extras(rows, call.extras, team);
    }
    for (int q = 0; q < cell.states && rearranged() && team.rank == 0; ++q)
      if (in.state[q])
        rows.gather_states(in.state[q].data, width_of(dims, q), &Part::initial, pieces.state0[q]);
    if (!cell.pack(call, team) || !cell.forward(call, team) || !rearranged()) return;
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
                                const BackwardSpec& how, const std::vector<Index>& left,
                                const Gradients<T>& out, const TapePieces& kept,
                                const BackwardPieces& work) const {
    BackwardCall<T> call{};
    call.dims = dims, call.rows = rows(), call.options = options;
    call.extras = kept.extras.of(extras);
    call.step_clip = {static_cast<StepClip::Kind>(how.clip.kind),
                      static_cast<StepClip::Target>(how.clip.target), how.clip.bound};
    call.cut = how.cut, call.steps_left = how.cut ? left.data() : nullptr;
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
    call.x = kept.x, call.y = kept.y, call.dx = work.dx;
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
    rows.scatter(pieces.dx, dims.I, out.x, lengths, team);
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

}  // namespace bptt
