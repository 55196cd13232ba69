// SPDX-License-Identifier: MIT
#include "core/plan.hpp"

#include <algorithm>
#include <cstring>
#include <sstream>

#include "core/find_kernel.hpp"
#include "targets/caches.hpp"
#include "threads/count.hpp"

namespace bptt::core {

// --- the plan

template <class T>
Plan<T>::Plan(const Spec& spec, const Inputs<T>& inputs) : spec_(spec), engine_(engine_of(inputs)) {
  if (spec.train && spec.checkpoint != Spec::off) place_checkpoints();
}

template <class T>
Plan<T>::Plan(const Prepared<T>& prepared, const Inputs<T>& inputs)
    : spec_(prepared.spec()), prepared_(&prepared), engine_(engine_of(inputs)) {}

template <class T>
Engine<T> Plan<T>::engine_of(const Inputs<T>& in) {
  const CellKernels<T>& cell = prepared_ ? prepared_->cell() : find_kernel<T>(spec_, in);
  if (prepared_ && (in.h_mask || in.zoneout[0] || in.zoneout[1]) && !prepared_->masked())
    refuse(spec_.caller,
           "h_mask or zoneout of each step is given, expected them when the weights were packed");
  const Options options = options_of(spec_);
  typename Engine<T>::Given given;
  const Dims& d = given.dims = check_inputs(spec_, cell, in);
  given.dims.caches = caches();
  given.extras = extras_of(spec_, in, d);
  given.train = spec_.train, given.rounds = spec_.bf16 || spec_.int8, given.reverse = spec_.reverse;
  given.packed = prepared_ ? prepared_->weights() : nullptr;
  given.dilation = spec_.dilation;
  const std::int64_t* lengths = in.lengths.data;
  const bool ragged =
      lengths && std::any_of(lengths, lengths + d.B, [&](std::int64_t n) { return n != d.T; });
  if (in.resets || spec_.dilation != 1 || ragged) {
    given.reset_row = has_reset_row(in, d);
    subsequences_ = split_sequences(
        d, {lengths, in.resets.data, spec_.dilation, spec_.reverse, given.reset_row ? d.B : -1});
    if (lengths) lengths_.assign(lengths, lengths + d.B);
  }
  given.subsequences = {subsequences_.data(), static_cast<Index>(subsequences_.size()),
                        subsequences_.empty() ? 0 : subsequences_[0].length};
  given.lengths = lengths_.empty() ? nullptr : lengths_.data();
  // Not filled with zeros first, which takes as long as the schedule itself.
  order_.reset(new Index[static_cast<std::size_t>(Schedule::size(given.split_dims().T))]);
  return {cell, options, given, Engine<T>::scheduled(order_.get(), cell, given)};
}

template <class T>
void Plan<T>::place_checkpoints() {
  Schedule& schedule = engine_.schedule;
  const Index chunks = schedule.chunks;
  const auto bytes = [&](Index n) {
    schedule.cut(n);
    return tape_bytes() + typename Engine<T>::BackwardLayout(engine_, nullptr, Wanted()).bytes;
  };
  if (spec_.checkpoint == Spec::sqrt) {
    Index n = 1;
    while (n * n < chunks) ++n;
    const std::size_t in_segments = bytes(n), whole = bytes(chunks);
    if (in_segments < whole) schedule.cut(n);  // unless the weights are more than the values
    return;
  }
  // The bytes rise with the length of the segments, but for very short ones; the shortest useful
  // length has as many chunks as there are segments.
  Index best = 0;
  std::size_t least = 0;
  for (Index n = std::max(chunks, Index(1)); n > 0; n = n == 1 ? 0 : (n + 1) / 2) {
    const std::size_t needed = bytes(n);
    if (needed <= spec_.max_bytes) {
      best = n;
      break;
    }
    least = least ? std::min(least, needed) : needed;
  }
  if (!best)
    refuse(spec_.caller, "checkpoint is " + std::to_string(spec_.max_bytes) +
                             ", expected at least " + std::to_string(least));
  schedule.cut(best);
}

template <class T>
std::size_t Plan<T>::tape_bytes() const {
  return spec_.train ? typename Engine<T>::TapeLayout(engine_, nullptr).bytes : 0;
}
template <class T>
std::size_t Plan<T>::forward_scratch_bytes() const {
  return typename Engine<T>::ForwardLayout(engine_, nullptr).bytes;
}
template <class T>
std::size_t Plan<T>::backward_scratch_bytes(const Gradients<T>& wanted) const {
  return
      typename Engine<T>::BackwardLayout(engine_, nullptr, wanted_of(wanted), wanted.trace).bytes;
}

// --- its calls

// work(team) for each rank, at most `most` of them, or the default number.
template <class T>
template <class F>
bool Plan<T>::run(int most, StopRequest stop, const F& work) const {
  PoolLease leased(engine_.team_size(most ? most : threads()));
  const int size = leased.size();
  std::vector<Index> shares;
  if (size > 1 && engine_.by_sequence(size)) {
    shares.resize(static_cast<std::size_t>(size) + 1);
    engine_.schedule.shares(size, shares.data());
  }
  return leased.run(stop, [&](Team team) {
    team.sequences = shares.empty() ? nullptr : shares.data();
    work(team);
  });
}

template <class T>
bool Plan<T>::forward(const Inputs<T>& in, const Outputs<T>& out, void* tape, void* scratch,
                      StopRequest stop) const {
  const Engine<T>& e = engine_;
  const typename Engine<T>::TapeLayout kept(e, spec_.train ? tape : nullptr);
  const typename Engine<T>::ForwardLayout work(e, scratch);
  check_buffer(spec_.caller, "tape", tape, spec_.train ? kept.bytes : 0);
  check_buffer(spec_.caller, "scratch", scratch, work.bytes);
  const ForwardCall<T> call = e.forward_call(in, out, kept, work);
  if (!run(spec_.threads, stop, [&](const Team& team) { e.forward(in, out, call, work, team); }))
    return false;
  e.mark(kept, in.x.data, out.y);
  return true;
}

// For each sequence, the steps processed at its step 0 or later, see BackwardCall.
template <class T>
std::vector<Index> Plan<T>::steps_left() const {
  const Dims& d = engine_.dims;
  std::vector<Index> left(static_cast<std::size_t>(d.B), spec_.reverse ? 1 : d.T);
  for (std::size_t r = 0; r < subsequences_.size(); ++r)
    left[r] = subsequences_[r].after + (spec_.reverse ? 1 : subsequences_[r].length);
  return left;
}

template <class T>
bool Plan<T>::backward(const BackwardSpec& spec, const T* x, const T* y,
                       const Cotangents<T>& cotangents, const Gradients<T>& out, const void* tape,
                       void* scratch, StopRequest stop) const {
  const Engine<T>& e = engine_;
  if (!spec_.train) refuse(spec.caller, "the forward call kept no tape, expected one that trains");
  check_cotangents(spec, dims(), spec_.dilation, e.cell.states, cotangents);
  const typename Engine<T>::TapeLayout kept(e, const_cast<void*>(tape));
  const typename Engine<T>::BackwardLayout work(e, scratch, wanted_of(out), out.trace);
  check_buffer(spec.caller, "tape", tape, kept.bytes);
  check_buffer(spec.caller, "scratch", scratch, work.bytes);
  if (const char* name = e.changed(kept, x, y))
    refuse(spec.caller, std::string(name) +
                            " has changed since the forward call, expected it as "
                            "it was: the tape refers to it");
  const std::vector<Index> left = spec.cut ? steps_left() : std::vector<Index>();
  BackwardCall<T> call = e.backward_call(x, y, cotangents, out, kept, work);
  call.step_clip = spec.clip, call.cut = spec.cut;
  call.steps_left = spec.cut ? left.data() : nullptr;
  if (!run(spec.threads, stop,
           [&](const Team& team) { e.backward(cotangents, out, call, work, team); }))
    return false;
  if (!out.trace.x) return true;
  if (e.gathers())
    e.gather_scatter().scatter(kept.x, dims().I, out.trace.x, e.given.lengths, alone);
  else
    std::copy_n(x, e.total() * dims().I, out.trace.x);
  return true;
}

// --- the values of a tape

template <class T>
std::vector<std::string> Plan<T>::names() const {
  std::vector<std::string> names;
  std::istringstream words(engine_.cell.names);
  for (std::string name; words >> name;) names.push_back(name);
  return names;
}

template <class T>
BackwardCall<T> Plan<T>::reading_call(const void* tape) const {
  if (engine_.rows().segments > 1)
    refuse(spec_.caller, "the tape was kept in segments, expected one without checkpoint");
  BackwardCall<T> call{};
  call.dims = engine_.dims, call.rows = engine_.rows(), call.options = engine_.options;
  call.tape = typename Engine<T>::TapeLayout(engine_, const_cast<void*>(tape)).kernel;
  return call;
}

// fill(rows) writes [R, width], which goes to the caller's array.
template <class T>
template <class U, class F>
void Plan<T>::scattered(Index width, U* out, const F& fill) const {
  const Engine<T>& e = engine_;
  if (!e.gathers()) return fill(out);
  std::vector<U> values(static_cast<std::size_t>(e.total() * width));
  fill(values.data());
  e.template gather_scatter<U>().scatter(values.data(), width, out, e.given.lengths, alone);
}

template <class T>
void Plan<T>::read(const void* tape, int index, T* out) const {
  const auto call = reading_call(tape);
  scattered(dims().H, out, [&](T* rows) { engine_.cell.read(call, index, rows); });
}

template <class T>
void Plan<T>::count_outside(const void* tape, const double* low, const double* high,
                            double* counts) const {
  const auto call = reading_call(tape);
  const Index gates = engine_.cell.values;
  scattered(gates, counts, [&](double* rows) {
    std::fill_n(rows, engine_.total() * gates, 0.0);
    engine_.cell.count_outside(call, low, high, rows);
  });
}

template class Plan<float>;
template class Plan<double>;
template class Plan<Dual>;

}  // namespace bptt::core
