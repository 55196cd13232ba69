// SPDX-License-Identifier: MIT
#include "bptt/recurrent.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "check.hpp"
#include "isa.hpp"

namespace bptt {
namespace {

#include "pieces.inl"

static_assert(most_states == max_states, "the public header and the kernels agree");

template <class T>
const CellKernels<T>* kernels_of(const KernelTable& table) {
  if constexpr (sizeof(T) == sizeof(float))
    return table.f32;
  else
    return table.f64;
}

template <class T>
const CellKernels<T>& find_cell(const Spec& spec) {
  const KernelTable& table = active_kernels();
  std::string choices;
  for (int i = 0; i < table.cells; ++i) {
    const CellKernels<T>& cell = kernels_of<T>(table)[i];
    if (spec.cell == cell.name) return cell;
    choices += (i ? ", " : "") + std::string(cell.name);
  }
  refuse(spec.caller, "cell is '" + spec.cell + "', expected one of " + choices);
}

Options options_of(const Spec& spec) {
  const char* names[] = {"tanh", "relu", "leaky_relu", "sigmoid",
                         "identity"};  // as enum Activation
  for (int i = 0; i < 5; ++i)
    if (spec.activation == names[i]) return {static_cast<Activation>(i)};
  refuse(spec.caller, "activation is '" + spec.activation +
                          "', expected one of tanh, relu, leaky_relu, sigmoid, identity");
}

}  // namespace

template <class T>
struct Plan<T>::Impl {
  Spec spec;
  const CellKernels<T>& cell;
  Options options;
  Dims dims;
  bool ragged;                      // rows are gathered from the caller's arrays and scattered back
  std::vector<Index> order;         // of the sequences, longest first
  std::vector<Index> count, first;  // see Rows

  Impl(const Spec& s, const Inputs<T>& in)
      : spec(s),
        cell(find_cell<T>(s)),
        options(options_of(s)),
        dims(check_inputs(s, cell.gates, cell.states, in)) {
    const std::int64_t* lengths = in.lengths.data;
    const auto full = [&](std::int64_t length) { return length == dims.T; };
    ragged = lengths && !std::all_of(lengths, lengths + dims.B, full);
    count.assign(static_cast<std::size_t>(dims.T), dims.B);
    if (ragged) sort_by_length(lengths);
    first.assign(static_cast<std::size_t>(dims.T) + 1, 0);
    std::partial_sum(count.begin(), count.end(), first.begin() + 1);
  }

  void sort_by_length(const std::int64_t* lengths) {
    order.resize(static_cast<std::size_t>(dims.B));
    std::iota(order.begin(), order.end(), Index(0));
    std::stable_sort(order.begin(), order.end(),
                     [&](Index a, Index b) { return lengths[a] > lengths[b]; });
    Index longer = dims.B;
    for (Index t = 0; t < dims.T; ++t) {
      while (longer > 0 && lengths[order[static_cast<std::size_t>(longer - 1)]] <= t) --longer;
      count[static_cast<std::size_t>(t)] = longer;
    }
  }

  Rows rows() const { return {count.data(), first.data(), spec.reverse}; }
  Index total() const { return first.back(); }
  Index source(Index row) const { return order[static_cast<std::size_t>(row)]; }
  static std::size_t bytes(Index n) { return static_cast<std::size_t>(n) * sizeof(T); }

  // --- between the caller's (T, B, width) or (B, width) arrays and sorted rows

  void gather(const T* from, Index width, T* rows_out) const {
    for (Index t = 0; t < dims.T; ++t)
      gather_rows(from + t * dims.B * width, count[static_cast<std::size_t>(t)], width,
                  rows_out + first[static_cast<std::size_t>(t)] * width);
  }
  void gather_rows(const T* from, Index n, Index width, T* out) const {
    for (Index r = 0; r < n; ++r)
      std::memcpy(out + r * width, from + source(r) * width, bytes(width));
  }
  void scatter(const T* rows_in, Index width, T* to) const {
    for (Index t = 0; t < dims.T; ++t) {
      T* step = to + t * dims.B * width;
      const Index n = count[static_cast<std::size_t>(t)];
      scatter_rows(rows_in + first[static_cast<std::size_t>(t)] * width, n, width, step);
      for (Index r = n; r < dims.B; ++r) std::fill_n(step + source(r) * width, width, T(0));
    }
  }
  void scatter_rows(const T* in, Index n, Index width, T* to) const {
    for (Index r = 0; r < n; ++r) std::memcpy(to + source(r) * width, in + r * width, bytes(width));
  }

  // --- the buffers: what the kernels ask for, and sorted copies of the caller's arrays

  struct TapePieces {
    void* kernel;
    T *x, *y;
    std::size_t bytes;
    TapePieces(const Impl& p, void* buffer) {
      Pieces pieces{static_cast<char*>(buffer)};
      kernel = pieces.take<char>(static_cast<Index>(p.cell.tape_bytes(p.dims, p.total())));
      x = p.ragged ? pieces.take<T>(p.total() * p.dims.I) : nullptr;
      y = p.ragged ? pieces.take<T>(p.total() * p.dims.H) : nullptr;
      bytes = pieces.used;
    }
  };

  struct ForwardPieces {
    void* kernel;
    T *x = nullptr, *y = nullptr;
    T *state0[max_states], *state_n[max_states];
    std::size_t bytes;
    ForwardPieces(const Impl& p, void* buffer) {
      Pieces pieces{static_cast<char*>(buffer)};
      kernel = pieces.take<char>(static_cast<Index>(p.cell.forward_scratch_bytes(p.dims)));
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
  ForwardCall<T> call{};
  call.dims = p.dims, call.rows = p.rows(), call.options = p.options;
  call.interrupt = {stop.requested, stop.context};
  call.x = in.x.data, call.w_ih = in.w_ih.data, call.w_hh = in.w_hh.data;
  call.b_ih = in.b_ih.data, call.b_hh = in.b_hh.data;
  call.y = out.y;
  call.tape = p.spec.train ? kept.kernel : nullptr;
  call.scratch = work.kernel;
  for (int q = 0; q < p.cell.states; ++q)
    call.state0[q] = in.state[q].data, call.state_n[q] = out.state[q];
  if (!p.ragged) return p.cell.forward(call);

  T* x = p.spec.train ? kept.x : work.x;
  p.gather(in.x.data, p.dims.I, x);
  call.x = x;
  call.y = p.spec.train ? kept.y : work.y;
  for (int q = 0; q < p.cell.states; ++q) {
    if (in.state[q]) p.gather_rows(in.state[q].data, p.dims.B, p.dims.H, work.state0[q]);
    call.state0[q] = in.state[q] ? work.state0[q] : nullptr;
    call.state_n[q] = work.state_n[q];
  }
  if (!p.cell.forward(call)) return false;
  p.scatter(call.y, p.dims.H, out.y);
  for (int q = 0; q < p.cell.states; ++q)
    p.scatter_rows(work.state_n[q], p.dims.B, p.dims.H, out.state[q]);
  return true;
}

template <class T>
bool Plan<T>::backward(const T* x, const T* y, const Cotangents<T>& given, StepClipping clip,
                       const Gradients<T>& out, const void* tape, void* scratch,
                       const std::string& caller, StopRequest stop) const {
  const Impl& p = *impl_;
  if (!p.spec.train) refuse(caller, "the forward call kept no tape, expected one that trains");
  check_cotangents(caller, p.dims, p.cell.states, given, clip);
  check_buffer(caller, "tape", tape, tape_bytes());
  check_buffer(caller, "scratch", scratch, backward_scratch_bytes());
  const typename Impl::TapePieces kept(p, const_cast<void*>(tape));
  const typename Impl::BackwardPieces work(p, scratch);
  BackwardCall<T> call{};
  call.dims = p.dims, call.rows = p.rows(), call.options = p.options;
  call.interrupt = {stop.requested, stop.context};
  call.step_clip = {static_cast<StepClip::Kind>(clip.kind), clip.bound};
  call.x = x, call.y = y, call.tape = kept.kernel, call.dy = given.y.data;
  call.dx = out.x, call.dw_ih = out.w_ih, call.dw_hh = out.w_hh;
  call.db_ih = out.b_ih ? out.b_ih : work.db_ih;
  call.db_hh = out.b_hh ? out.b_hh : work.db_hh;
  call.scratch = work.kernel;
  for (int q = 0; q < p.cell.states; ++q)
    call.dstate_n[q] = given.state[q].data, call.dstate0[q] = out.state[q];
  if (!p.ragged) return p.cell.backward(call);

  call.x = kept.x, call.y = kept.y, call.dx = work.dx;
  if (given.y) p.gather(given.y.data, p.dims.H, work.dy);
  call.dy = given.y ? work.dy : nullptr;
  for (int q = 0; q < p.cell.states; ++q) {
    if (given.state[q]) p.gather_rows(given.state[q].data, p.dims.B, p.dims.H, work.dstate_n[q]);
    call.dstate_n[q] = given.state[q] ? work.dstate_n[q] : nullptr;
    call.dstate0[q] = work.dstate0[q];
  }
  if (!p.cell.backward(call)) return false;
  p.scatter(work.dx, p.dims.I, out.x);
  for (int q = 0; q < p.cell.states; ++q)
    p.scatter_rows(work.dstate0[q], p.dims.B, p.dims.H, out.state[q]);
  return true;
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
