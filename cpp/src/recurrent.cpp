// SPDX-License-Identifier: MIT
#include "bptt/recurrent.hpp"

#include <sstream>

#include "plan.hpp"

namespace bptt {

template <class T>
Plan<T>::Plan(const Spec& spec, const Inputs<T>& inputs) : impl_(new Impl(spec, inputs)) {}
template <class T>
Plan<T>::Plan(Plan&&) noexcept = default;
template <class T>
Plan<T>::~Plan() = default;

template <class T>
std::ptrdiff_t Plan<T>::steps() const {
  return impl_->given.T;
}
template <class T>
std::ptrdiff_t Plan<T>::batch() const {
  return impl_->given.B;
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
std::ptrdiff_t Plan<T>::output_size() const {
  return impl_->dims.P;
}
template <class T>
std::ptrdiff_t Plan<T>::recurrent_size() const {
  return impl_->dims.U;
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
bool Plan<T>::has_apart() const {
  return impl_->cell.apart;
}
template <class T>
int Plan<T>::read_gates() const {
  return impl_->cell.values;
}
template <class T>
bool Plan<T>::has_inner() const {
  return impl_->cell.inner;
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
std::size_t Plan<T>::backward_scratch_bytes(const Trace<T>& wanted) const {
  return typename Impl::BackwardPieces(*impl_, nullptr, wanted).bytes;
}

template <class T>
bool Plan<T>::forward(const Inputs<T>& in, const Outputs<T>& out, void* tape, void* scratch,
                      StopRequest stop) const {
  const Impl& p = *impl_;
  const typename Impl::TapePieces kept(p, p.spec.train ? tape : nullptr);
  const typename Impl::ForwardPieces work(p, scratch);
  check_buffer(p.spec.caller, "tape", tape, p.spec.train ? kept.bytes : 0);
  check_buffer(p.spec.caller, "scratch", scratch, work.bytes);
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
  check_cotangents(spec, p.given, p.spec.dilation, p.cell.states, given);
  const typename Impl::TapePieces kept(p, const_cast<void*>(tape));
  const typename Impl::BackwardPieces work(p, scratch, out.trace);
  check_buffer(spec.caller, "tape", tape, kept.bytes);
  check_buffer(spec.caller, "scratch", scratch, work.bytes);
  const std::vector<Index> left = spec.cut ? p.steps_left() : std::vector<Index>();
  const BackwardCall<T> call = p.backward_call(x, y, given, spec, left, out, kept, work);
  return p.run(spec.threads, stop,
               [&](const Team& team) { p.backward(given, out, call, work, team); });
}

template <class T>
std::vector<std::string> Plan<T>::names() const {
  std::vector<std::string> names;
  std::istringstream words(impl_->cell.names);
  for (std::string name; words >> name;) names.push_back(name);
  return names;
}

namespace {

// To read the values of a tape.
template <class T, class Impl>
BackwardCall<T> reading_call(const Impl& p, const void* tape) {
  if (p.rows().segments > 1)
    refuse(p.spec.caller, "the tape was kept in segments, expected one without checkpoint");
  BackwardCall<T> call{};
  call.dims = p.dims, call.rows = p.rows(), call.options = p.options;
  call.tape = typename Impl::TapePieces(p, const_cast<void*>(tape)).kernel;
  return call;
}

// What f puts into rows, [total, width], to the caller's array.
template <class T, class Impl, class F>
void scattered(const Impl& p, Index width, T* out, const F& f) {
  if (!p.rearranged()) return f(out);
  std::vector<T> values(static_cast<std::size_t>(p.total() * width));
  f(values.data());
  const Team alone{0, 1, nullptr, nullptr, nullptr, nullptr};
  Rearrangement<T>{p.given, p.parts, p.schedule}.scatter(values.data(), width, out, p.lengths,
                                                         alone);
}

}  // namespace

template <class T>
void Plan<T>::read(const void* tape, int which, T* out) const {
  const Impl& p = *impl_;
  const auto call = reading_call<T>(p, tape);
  scattered(p, p.dims.H, out, [&](T* rows) { p.cell.read(call, which, rows); });
}

template <class T>
void Plan<T>::count_outside(const void* tape, const double* low, const double* high,
                            double* counts) const {
  const Impl& p = *impl_;
  const auto call = reading_call<T>(p, tape);
  scattered(p, p.cell.values, counts, [&](double* rows) {
    std::fill_n(rows, p.total() * p.cell.values, 0.0);
    p.cell.count_outside(call, low, high, rows);
  });
}

template class Plan<float>;
template class Plan<double>;
template class Plan<Dual>;

std::vector<CellInfo> cells() {
  std::vector<CellInfo> list;
  const KernelTable* table = &active_kernels();
  while (table->rest) table = table->rest;
  for (const auto *cell = table->f32, *end = cell + table->cells; cell != end; ++cell)
    if (std::string name = cell->name; name.find('_') == name.npos)  // not the general ones
      if (!cell->layer_norms) list.push_back({name, cell->gates, cell->states});
  return list;
}

}  // namespace bptt
