// SPDX-License-Identifier: MIT
#include "core/plan.hpp"

#include <algorithm>
#include <cstring>
#include <sstream>

#include "core/plan_impl.hpp"

namespace bptt::core {
namespace {

constexpr Team alone{0, 1, nullptr, nullptr, nullptr, nullptr};

}  // namespace

template <class T>
Plan<T>::Plan(const Spec& spec, const Inputs<T>& inputs) : impl_(new Impl(spec, inputs)) {}
template <class T>
Plan<T>::Plan(Plan&&) noexcept = default;
template <class T>
Plan<T>::~Plan() = default;

template <class T>
std::ptrdiff_t Plan<T>::steps() const {
  return impl_->engine.given.T;
}
template <class T>
std::ptrdiff_t Plan<T>::batch() const {
  return impl_->engine.given.B;
}
template <class T>
std::ptrdiff_t Plan<T>::input_size() const {
  return impl_->engine.dims.I;
}
template <class T>
std::ptrdiff_t Plan<T>::hidden_size() const {
  return impl_->engine.dims.H;
}
template <class T>
std::ptrdiff_t Plan<T>::output_size() const {
  return impl_->engine.dims.P;
}
template <class T>
std::ptrdiff_t Plan<T>::recurrent_size() const {
  return impl_->engine.dims.U;
}
template <class T>
int Plan<T>::gates() const {
  return impl_->engine.cell.gates;
}
template <class T>
int Plan<T>::states() const {
  return impl_->engine.cell.states;
}
template <class T>
std::vector<std::ptrdiff_t> Plan<T>::lengths() const {
  return impl_->lengths;
}
template <class T>
bool Plan<T>::has_apart() const {
  return impl_->engine.cell.apart;
}
template <class T>
int Plan<T>::read_gates() const {
  return impl_->engine.cell.values;
}
template <class T>
bool Plan<T>::has_inner() const {
  return impl_->engine.cell.inner;
}

template <class T>
std::size_t Plan<T>::tape_bytes() const {
  return impl_->spec.train ? impl_->tape_bytes() : 0;
}
template <class T>
std::size_t Plan<T>::forward_scratch_bytes() const {
  return typename Engine<T>::ForwardPieces(impl_->engine, nullptr).bytes;
}
template <class T>
std::size_t Plan<T>::backward_scratch_bytes(const Trace<T>& wanted) const {
  return impl_->backward_bytes(wanted);
}

template <class T>
bool Plan<T>::forward(const Inputs<T>& in, const Outputs<T>& out, void* tape, void* scratch,
                      StopRequest stop) const {
  const Engine<T>& e = impl_->engine;
  const Spec& spec = impl_->spec;
  const typename Engine<T>::TapePieces kept(e, e.train ? tape : nullptr);
  const typename Engine<T>::ForwardPieces work(e, scratch);
  check_buffer(spec.caller, "tape", tape, e.train ? kept.bytes : 0);
  check_buffer(spec.caller, "scratch", scratch, work.bytes);
  const ForwardCall<T> call = e.forward_call(in, out, kept, work);
  if (!impl_->run(spec.threads, stop,
                  [&](const Team& team) { e.forward(in, out, call, work, team); }))
    return false;
  e.mark(kept, in.x.data, out.y);
  return true;
}

template <class T>
bool Plan<T>::backward(const BackwardSpec& spec, const T* x, const T* y, const Cotangents<T>& given,
                       const Gradients<T>& out, const void* tape, void* scratch,
                       StopRequest stop) const {
  const Engine<T>& e = impl_->engine;
  if (!e.train) refuse(spec.caller, "the forward call kept no tape, expected one that trains");
  check_cotangents(spec, e.given, e.dilation, e.cell.states, given);
  const typename Engine<T>::TapePieces kept(e, const_cast<void*>(tape));
  const typename Engine<T>::BackwardPieces work(e, scratch, out.trace);
  check_buffer(spec.caller, "tape", tape, kept.bytes);
  check_buffer(spec.caller, "scratch", scratch, work.bytes);
  if (const char* name = e.changed(kept, x, y))
    refuse(spec.caller, std::string(name) +
                            " has changed since the forward call, expected it as "
                            "it was: the tape refers to it");
  const StepClip clip{static_cast<StepClip::Kind>(spec.clip.kind),
                      static_cast<StepClip::Target>(spec.clip.target), spec.clip.bound};
  const std::vector<Index> left = spec.cut ? impl_->steps_left() : std::vector<Index>();
  const BackwardCall<T> call = e.backward_call(x, y, given, clip, spec.cut,
                                               spec.cut ? left.data() : nullptr, out, kept, work);
  if (!impl_->run(spec.threads, stop,
                  [&](const Team& team) { e.backward(given, out, call, work, team); }))
    return false;
  if (!out.trace.x) return true;
  if (e.rearranged())
    e.rearrangement().scatter(kept.x, e.dims.I, out.trace.x, e.lengths, alone);
  else
    std::copy_n(x, e.total() * e.dims.I, out.trace.x);
  return true;
}

template <class T>
std::vector<std::string> Plan<T>::names() const {
  std::vector<std::string> names;
  std::istringstream words(impl_->engine.cell.names);
  for (std::string name; words >> name;) names.push_back(name);
  return names;
}

namespace {

// To read the values of a tape.
template <class T>
BackwardCall<T> reading_call(const std::string& caller, const Engine<T>& e, const void* tape) {
  if (e.rows().segments > 1)
    refuse(caller, "the tape was kept in segments, expected one without checkpoint");
  BackwardCall<T> call{};
  call.dims = e.dims, call.rows = e.rows(), call.options = e.options;
  call.tape = typename Engine<T>::TapePieces(e, const_cast<void*>(tape)).kernel;
  return call;
}

// What f puts into rows, [total, width], to the caller's array.
template <class T, class U, class F>
void scattered(const Engine<T>& e, Index width, U* out, const F& f) {
  if (!e.rearranged()) return f(out);
  std::vector<U> values(static_cast<std::size_t>(e.total() * width));
  f(values.data());
  Rearrangement<U>{e.given, e.parts, e.schedule}.scatter(values.data(), width, out, e.lengths,
                                                         alone);
}

}  // namespace

template <class T>
void Plan<T>::read(const void* tape, int which, T* out) const {
  const Engine<T>& e = impl_->engine;
  const auto call = reading_call(impl_->spec.caller, e, tape);
  scattered(e, e.dims.H, out, [&](T* rows) { e.cell.read(call, which, rows); });
}

template <class T>
void Plan<T>::count_outside(const void* tape, const double* low, const double* high,
                            double* counts) const {
  const Engine<T>& e = impl_->engine;
  const auto call = reading_call(impl_->spec.caller, e, tape);
  scattered(e, e.cell.values, counts, [&](double* rows) {
    std::fill_n(rows, e.total() * e.cell.values, 0.0);
    e.cell.count_outside(call, low, high, rows);
  });
}

template class Plan<float>;
template class Plan<double>;
template class Plan<Dual>;

std::vector<CellInfo> cells() {
  std::vector<CellInfo> list;
  const auto known = [&](const std::string& name) {
    return std::any_of(list.begin(), list.end(), [&](const auto& c) { return c.name == name; });
  };
  for (const KernelTable* table = &active_kernels(); table; table = table->rest)
    for (int i = 0; table->f32 && i < table->cells; ++i)
      if (const auto& cell = table->f32[i];
          std::strchr(cell.name, '_') == nullptr && !cell.layer_norms && !known(cell.name))
        list.push_back({cell.name, cell.gates, cell.states});  // without the general ones
  return list;
}

}  // namespace bptt::core
