// SPDX-License-Identifier: MIT
#include "bptt/recurrent.hpp"

#include <algorithm>
#include <cstring>

#include "bptt/threads.hpp"
#include "dispatch.hpp"
#include "schedule.hpp"
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
  Dims dims;
  bool ragged;  // rows are gathered from the caller's arrays and scattered back
  Schedule schedule;

  Impl(const Spec& s, const Inputs<T>& in)
      : spec(s),
        cell(find_cell<T>(s)),
        options(options_of(s)),
        dims(check_inputs(s, cell.gates, cell.states, in)),
        ragged(!all_equal(in.lengths.data, dims)),
        schedule(dims, ragged ? in.lengths.data : nullptr, s.reverse, groups(), chunk_rows()) {
    if (spec.train && spec.checkpoint != Spec::off) place_checkpoints();
  }

  // Two ranks that each take half the sequences need not exchange anything until the end, if each
  // sums its own weight gradients. That they are summed so must not depend on the number of ranks,
  // so it depends on the sizes: it pays while the gradients fit into a cache.
  int groups() const {
    return dims.B >= 8 && (spec.bf16 || gradient_bytes() <= (Index(1) << 20)) ? 2 : 1;
  }
  Index gradient_bytes() const {
    return cell.gates * dims.H * (dims.I + dims.H) * Index(sizeof(T));
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
  Index source(Index row) const { return schedule.order[static_cast<std::size_t>(row)]; }
  static std::size_t bytes(Index n) { return static_cast<std::size_t>(n) * sizeof(T); }

  // --- the threads

  // Threads cost some microseconds a call, or, where they share the hidden units, some tenths of
  // one a step: below, they would not pay.
  int team_size(int given) const {
    constexpr double least_work = 1e6, least_step = 1e5;  // operations of one thread
    const double step = 2.0 * static_cast<double>(cell.gates * dims.H) *
                        static_cast<double>(dims.I + dims.H) * static_cast<double>(dims.B);
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
  // Whole sequences for every rank if each has enough to fill its registers.
  bool by_sequence(int ranks) const { return dims.B / ranks >= 4; }

  // --- between the caller's (T, B, width) or (B, width) arrays and sorted rows; a rank's share of
  // the steps or, of the latter, all by the first rank

  struct Steps {
    Index begin, end;
  };
  Steps steps(const Team& team) const {
    return {dims.T * team.rank / team.size, dims.T * (team.rank + 1) / team.size};
  }
  Index count(Index t) const { return schedule.count[static_cast<std::size_t>(t)]; }
  Index first(Index t) const { return schedule.first[static_cast<std::size_t>(t)]; }

  void gather(const T* from, Index width, T* rows_out, const Team& team) const {
    const Steps mine = steps(team);
    for (Index t = mine.begin; t < mine.end; ++t)
      gather_rows(from + t * dims.B * width, count(t), width, rows_out + first(t) * width);
  }
  void gather_rows(const T* from, Index n, Index width, T* out) const {
    for (Index r = 0; r < n; ++r)
      std::memcpy(out + r * width, from + source(r) * width, bytes(width));
  }
  void scatter(const T* rows_in, Index width, T* to, const Team& team) const {
    const Steps mine = steps(team);
    for (Index t = mine.begin; t < mine.end; ++t) {
      T* step = to + t * dims.B * width;
      scatter_rows(rows_in + first(t) * width, count(t), width, step);
      for (Index r = count(t); r < dims.B; ++r) std::fill_n(step + source(r) * width, width, T(0));
    }
  }
  void scatter_rows(const T* in, Index n, Index width, T* to) const {
    for (Index r = 0; r < n; ++r) std::memcpy(to + source(r) * width, in + r * width, bytes(width));
  }

  // --- the buffers: what the kernels ask for, and sorted copies of the caller's arrays

  struct TapePieces {
    void *kernel, *weights = nullptr;
    T *x, *y;
    std::size_t bytes;
    TapePieces(const Impl& p, void* buffer) {
      Pieces pieces{static_cast<char*>(buffer)};
      kernel = pieces.take<char>(static_cast<Index>(p.cell.tape_bytes(p.dims, p.rows())));
      if (p.rows().segments > 1)
        weights = pieces.take<char>(static_cast<Index>(p.cell.weights_bytes(p.dims)));
      x = p.ragged ? pieces.take<T>(p.total() * p.dims.I) : nullptr;
      y = p.ragged ? pieces.take<T>(p.total() * p.dims.H) : nullptr;
      bytes = pieces.used;
    }
  };

  struct ForwardPieces {
    void *kernel, *weights;
    T *x = nullptr, *y = nullptr;
    T *state0[max_states], *state_n[max_states];
    std::size_t bytes;
    ForwardPieces(const Impl& p, void* buffer) {
      Pieces pieces{static_cast<char*>(buffer)};
      kernel = pieces.take<char>(static_cast<Index>(p.cell.forward_scratch_bytes(p.dims)));
      weights = pieces.take<char>(static_cast<Index>(p.cell.weights_bytes(p.dims)));
      if (p.ragged && !p.spec.train) {
        x = pieces.take<T>(p.total() * p.dims.I);
        y = pieces.take<T>(p.total() * p.dims.H);
      }
      for (int q = 0; p.ragged && q < p.cell.states; ++q) {
        state0[q] = pieces.take<T>(p.dims.B * p.dims.H);
        state_n[q] = pieces.take<T>(p.dims.B * p.dims.H);
      }
      bytes = pieces.used;
    }
  };

  struct BackwardPieces {
    void* kernel;
    T *dx, *dy;
    T *dstate_n[max_states], *dstate0[max_states];
    T *db_ih, *db_hh;  // where the caller has no bias
    std::size_t bytes;
    BackwardPieces(const Impl& p, void* buffer) {
      Pieces pieces{static_cast<char*>(buffer)};
      kernel =
          pieces.take<char>(static_cast<Index>(p.cell.backward_scratch_bytes(p.dims, p.rows())));
      db_ih = pieces.take<T>(p.cell.gates * p.dims.H);
      db_hh = pieces.take<T>(p.cell.gates * p.dims.H);
      dx = p.ragged ? pieces.take<T>(p.total() * p.dims.I) : nullptr;
      dy = p.ragged ? pieces.take<T>(p.total() * p.dims.H) : nullptr;
      for (int q = 0; p.ragged && q < p.cell.states; ++q) {
        dstate_n[q] = pieces.take<T>(p.dims.B * p.dims.H);
        dstate0[q] = pieces.take<T>(p.dims.B * p.dims.H);
      }
      bytes = pieces.used;
    }
  };

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
    call.b_ih = in.b_ih.data, call.b_hh = in.b_hh.data;
    call.packs = packs();
    call.weights = kept.weights ? kept.weights : work.weights;
    call.y = out.y;
    call.tape = spec.train ? kept.kernel : nullptr;
    call.scratch = work.kernel;
    for (int q = 0; q < cell.states; ++q)
      call.state0[q] = in.state[q].data, call.state_n[q] = out.state[q];
    if (!ragged) return call;
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
    if (ragged) gather(in.x.data, dims.I, const_cast<T*>(call.x), team);
    for (int q = 0; q < cell.states && ragged && team.rank == 0; ++q)
      if (in.state[q]) gather_rows(in.state[q].data, dims.B, dims.H, pieces.state0[q]);
    if (!cell.pack(call, team) || !cell.forward(call, team) || !ragged) return;
    scatter(call.y, dims.H, out.y, team);
    for (int q = 0; q < cell.states && team.rank == 0; ++q)
      scatter_rows(call.state_n[q], dims.B, dims.H, out.state[q]);
  }

  BackwardCall<T> backward_call(const T* x, const T* y, const Cotangents<T>& given,
                                StepClipping clip, const Gradients<T>& out, const TapePieces& kept,
                                const BackwardPieces& work) const {
    BackwardCall<T> call{};
    call.dims = dims, call.rows = rows(), call.options = options;
    call.step_clip = {static_cast<StepClip::Kind>(clip.kind), clip.bound};
    call.x = x, call.y = y, call.tape = kept.kernel, call.weights = kept.weights;
    call.dy = given.y.data;
    call.dx = out.x, call.dw_ih = out.w_ih, call.dw_hh = out.w_hh;
    call.db_ih = out.b_ih ? out.b_ih : work.db_ih;
    call.db_hh = out.b_hh ? out.b_hh : work.db_hh;
    call.scratch = work.kernel;
    for (int q = 0; q < cell.states; ++q)
      call.dstate_n[q] = given.state[q].data, call.dstate0[q] = out.state[q];
    if (!ragged) return call;
    call.x = kept.x, call.y = kept.y, call.dx = work.dx;
    call.dy = given.y ? work.dy : nullptr;
    for (int q = 0; q < cell.states; ++q) {
      call.dstate_n[q] = given.state[q] ? work.dstate_n[q] : nullptr;
      call.dstate0[q] = work.dstate0[q];
    }
    return call;
  }

  void backward(const Cotangents<T>& given, const Gradients<T>& out, const BackwardCall<T>& call,
                const BackwardPieces& pieces, const Team& team) const {
    if (ragged && given.y) gather(given.y.data, dims.H, pieces.dy, team);
    for (int q = 0; q < cell.states && ragged && team.rank == 0; ++q)
      if (given.state[q]) gather_rows(given.state[q].data, dims.B, dims.H, pieces.dstate_n[q]);
    if (team.size > 1 && ragged && !team.wait(team.context)) return;
    if (!cell.backward(call, team) || !ragged) return;
    scatter(pieces.dx, dims.I, out.x, team);
    for (int q = 0; q < cell.states && team.rank == 0; ++q)
      scatter_rows(pieces.dstate0[q], dims.B, dims.H, out.state[q]);
  }
};

template <class T>
Plan<T>::Plan(const Spec& spec, const Inputs<T>& inputs) : impl_(new Impl(spec, inputs)) {}
template <class T>
Plan<T>::Plan(Plan&&) noexcept = default;
template <class T>
Plan<T>::~Plan() = default;

template <class T>
std::ptrdiff_t Plan<T>::steps() const {
  return impl_->dims.T;
}
template <class T>
std::ptrdiff_t Plan<T>::batch() const {
  return impl_->dims.B;
}
template <class T>
std::ptrdiff_t Plan<T>::input_size() const {
  return impl_->dims.I;
}
template <class T>
std::ptrdiff_t Plan<T>::hidden_size() const {
  return impl_->dims.H;
}
template <class T>
int Plan<T>::gates() const {
  return impl_->cell.gates;
}
template <class T>
int Plan<T>::states() const {
  return impl_->cell.states;
}

template <class T>
std::size_t Plan<T>::tape_bytes() const {
  return impl_->spec.train ? typename Impl::TapePieces(*impl_, nullptr).bytes : 0;
}
template <class T>
std::size_t Plan<T>::forward_scratch_bytes() const {
  return typename Impl::ForwardPieces(*impl_, nullptr).bytes;
}
template <class T>
std::size_t Plan<T>::backward_scratch_bytes() const {
  return typename Impl::BackwardPieces(*impl_, nullptr).bytes;
}

template <class T>
bool Plan<T>::forward(const Inputs<T>& in, const Outputs<T>& out, void* tape, void* scratch,
                      StopRequest stop) const {
  const Impl& p = *impl_;
  check_buffer(p.spec.caller, "tape", tape, tape_bytes());
  check_buffer(p.spec.caller, "scratch", scratch, forward_scratch_bytes());
  const typename Impl::TapePieces kept(p, p.spec.train ? tape : nullptr);
  const typename Impl::ForwardPieces work(p, scratch);
  const ForwardCall<T> call = p.forward_call(in, out, kept, work);
  return p.run(p.spec.threads, stop,
               [&](const Team& team) { p.forward(in, out, call, work, team); });
}

template <class T>
bool Plan<T>::backward(const BackwardSpec& spec, const T* x, const T* y, const Cotangents<T>& given,
                       const Gradients<T>& out, const void* tape, void* scratch,
                       StopRequest stop) const {
  const Impl& p = *impl_;
  if (!p.spec.train) refuse(spec.caller, "the forward call kept no tape, expected one that trains");
  check_cotangents(spec, p.dims, p.cell.states, given);
  check_buffer(spec.caller, "tape", tape, tape_bytes());
  check_buffer(spec.caller, "scratch", scratch, backward_scratch_bytes());
  const typename Impl::TapePieces kept(p, const_cast<void*>(tape));
  const typename Impl::BackwardPieces work(p, scratch);
  const BackwardCall<T> call = p.backward_call(x, y, given, spec.clip, out, kept, work);
  return p.run(spec.threads, stop,
               [&](const Team& team) { p.backward(given, out, call, work, team); });
}

template class Plan<float>;
template class Plan<double>;

std::vector<CellInfo> cells() {
  std::vector<CellInfo> list;
  const KernelTable& table = active_kernels();
  for (int i = 0; i < table.cells; ++i)
    list.push_back({table.f32[i].name, table.f32[i].gates, table.f32[i].states});
  return list;
}

}  // namespace bptt
