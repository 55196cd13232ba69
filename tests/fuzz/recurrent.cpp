// SPDX-License-Identifier: MIT
// The C++ interface on whatever a caller may ask of it: refused with std::invalid_argument, or
// computed within the bytes that the plan asks for, to the same bits on other threads, with
// checkpoints, after a stop, and step by step. For libFuzzer; see scripts/fuzz.
#include <fuzzer/FuzzedDataProvider.h>

#include <cstdlib>

#include "../cpp/cases.hpp"
#include "core/stream.hpp"

namespace {

using Bytes = FuzzedDataProvider;

template <std::size_t N>
const char* one_of(Bytes& bytes, const char* const (&all)[N]) {
  return all[bytes.ConsumeIntegralInRange<std::size_t>(0, N - 1)];
}

double number(Bytes& bytes) {
  constexpr double some[] = {0, 0.3, 1, 2, -1, 1e-300, 1e300, core::infinite, NAN};
  return bytes.ConsumeBool() ? bytes.PickValueInArray(some) : bytes.ConsumeFloatingPoint<double>();
}

// The arguments that most calls leave as they are, each once in a while.
bool rarely(Bytes& bytes) { return bytes.ConsumeIntegralInRange(0, 7) == 7; }

Case any_case(Bytes& bytes) {
  constexpr const char* cells[] = {"lstm", "gru", "rnn", "mgu", "slstm", "lstm1997", "", "lstm_"};
  constexpr const char* activations[] = {"tanh",     "relu",         "leaky_relu", "sigmoid",
                                         "identity", "hard_sigmoid", "elu",        "softplus",
                                         "affine",   "other"};
  constexpr const char* forgets[] = {"own", "coupled", "none", "other"};
  Case c = plain(one_of(bytes, cells));
  core::Spec& s = c.spec;
  if (rarely(bytes)) s.activation = one_of(bytes, activations);
  if (rarely(bytes)) s.gate_activation = {one_of(bytes, activations), {-0.3, 0.7}};
  if (rarely(bytes)) s.output_activation = one_of(bytes, activations);
  if (s.cell == "lstm" && rarely(bytes)) s.forget_gate = one_of(bytes, forgets);
  if (rarely(bytes)) s.reset_after = false;
  for (double* v : {&s.leak, &s.cell_clip, &s.preact_clip, &s.zoneout[0], &s.zoneout[1]})
    if (rarely(bytes)) *v = number(bytes);
  for (std::ptrdiff_t* v : {&s.skip, &s.dilation})
    if (rarely(bytes)) *v = bytes.ConsumeIntegralInRange<std::ptrdiff_t>(-1, 6);
  s.reverse = bytes.ConsumeBool(), s.train = !rarely(bytes), s.bf16 = rarely(bytes);
  s.threads = bytes.ConsumeIntegralInRange(-1, 4);
  s.checkpoint = bytes.PickValueInArray({core::Spec::off, core::Spec::sqrt, core::Spec::bytes});
  s.max_bytes = bytes.ConsumeIntegralInRange<std::size_t>(0, 1 << 18);
  for (bool* v : {&c.peepholes, &c.layer_norm, &c.h_mask, &c.zoneout, &c.resets, &c.lengths})
    *v = rarely(bytes);
  if (s.cell != "lstm" && !rarely(bytes)) c.peepholes = false;
  if (rarely(bytes)) c.projected = bytes.ConsumeIntegralInRange<Index>(1, 40);
  c.biases = !rarely(bytes), c.state = !rarely(bytes);
  return c;
}

// Calls with numbers, or with dual numbers for derivatives.
template <class T>
Problem<T> any_problem(Bytes& bytes, Case c, Sizes n) {
  c.lengths = c.lengths && n.B > 0;  // make_problem() sets the first and the last
  Problem<T> p = make_problem(c, n, bytes.ConsumeIntegral<unsigned>()).template cast<T>();
  if constexpr (std::is_same_v<T, core::Dual>)
    for (Arrays<T>* arrays : {&p.in, &p.out})
      for (auto& [name, a] : *arrays)
        for (T& v : a.data) v.tangent = 0.5 - v.value;
  return p;
}

// Replaces some numbers of every array by extreme ones; false: all are finite and moderate.
template <class T>
bool strange_values(Bytes& bytes, Problem<T>& p) {
  if (!rarely(bytes)) return false;
  constexpr double some[] = {0.0, -0.0, 1e-310, 1e-40, 1e30, -1e300, core::infinite, NAN};
  for (Arrays<T>* arrays : {&p.in, &p.fixed, &p.out})
    for (auto& [name, a] : *arrays)
      if (!a.data.empty() && bytes.ConsumeBool())
        a.at(bytes.ConsumeIntegralInRange<Index>(0, Index(a.data.size()) - 1)) =
            static_cast<T>(bytes.PickValueInArray(some));
  return true;
}

// Gives one argument an invalid size.
template <class T>
bool wrong_shape(Bytes& bytes, core::Inputs<T>& in) {
  if (!rarely(bytes)) return false;
  core::Tensor<const T>* tensors[] = {
      &in.x,          &in.w_ih,          &in.w_hh,      &in.w_hr,         &in.b_ih,
      &in.b_hh,       &in.state[0],      &in.peepholes, &in.h_mask,       &in.zoneout[0],
      &in.zoneout[1], &in.layer_norm[0], &in.state[1],  &in.layer_norm[3]};
  core::Tensor<const T>& t = *bytes.PickValueInArray(tensors);
  constexpr Index sizes[] = {-1, INT64_MIN, INT64_MAX, Index(1) << 62, Index(1) << 55};
  if (!t) return false;
  if (bytes.ConsumeBool())
    --t.ndim;
  else
    t.shape[bytes.ConsumeIntegralInRange(0, t.ndim - 1)] = bytes.PickValueInArray(sizes);
  return true;
}

template <class T>
void same(const Arrays<T>& got, const Arrays<T>& want) {
  check_same_bits(got, want);
  if (check::failures) std::abort();
}

core::BackwardSpec any_backward(Bytes& bytes) {
  core::BackwardSpec how;
  using Clip = core::StepClip;
  how.clip.kind = bytes.PickValueInArray({Clip::none, Clip::value, Clip::norm});
  how.clip.target = bytes.PickValueInArray({Clip::h, Clip::c, Clip::gates});
  how.clip.bound = rarely(bytes) ? number(bytes) : 0.5;
  how.cut = rarely(bytes) ? bytes.ConsumeIntegralInRange<std::ptrdiff_t>(-1, 9) : 0;
  how.threads = bytes.ConsumeIntegralInRange(-1, 4);
  return how;
}

// All arrays of a trace.
template <class T>
struct Traced {
  Array<double> norms;
  Array<T> dh, dc, gates, candidate_hh, operand, second_operand;
  core::Trace<T> trace;
  Traced(const Problem<T>& p, const core::Plan<T>& plan, bool full) {
    const auto make = [&](auto& array, auto*& pointer, bool wanted, Index width) {
      using Kind = std::decay_t<decltype(array)>;
      if (wanted) array = Kind({p.n.T, p.n.B, width}), pointer = array.data.data();
    };
    make(norms, trace.norms, true, plan.cell().gates + 4);
    make(dh, trace.dh, full, plan.dims().P);
    make(dc, trace.dc, full && plan.cell().states > 1, p.n.H);
    make(gates, trace.gates, full, plan.cell().gates * p.n.H);
    make(candidate_hh, trace.candidate_hh, full && plan.cell().split_gate, p.n.H);
    make(operand, trace.operand, full, plan.dims().U);
    make(second_operand, trace.second_operand, full && plan.cell().second_product, p.n.H);
  }
};

bool stops(void* calls_left) { return --*static_cast<int*>(calls_left) < 0; }

// A call that may be stopped leaves nothing behind.
template <class T>
void stopped(const Problem<T>& p, int after) {
  const Run<T> run(p);
  Arrays<T> results = run.results;
  core::Outputs<T> o{};
  o.y = results["y"].data.data();
  for (int q = 0; q < p.states; ++q) o.state[q] = results["state" + std::to_string(q)].data.data();
  const Buffer scratch = buffer(run.plan.forward_scratch_bytes());
  if (run.plan.forward(p.inputs(), o, run.tape.get(), scratch.get(), {stops, &after}))
    same(results, run.results);
}

template <class T>
void step_by_step(const Problem<T>& p, const Arrays<T>& whole, Index steps) {
  core::Stream<T> stream(p.spec, p.inputs());
  Arrays<T> got;
  got["y"] = Array<T>({p.n.T, p.n.B, p.P});
  for (Index t = 0; t < p.n.T; t += steps)
    if (!stream.process(p.in.at("x").data.data() + t * p.n.B * p.n.I, std::min(steps, p.n.T - t),
                        got["y"].data.data() + t * p.n.B * p.P))
      std::abort();
  same(got, {{"y", whole.at("y")}});
}

template <class T>
void call(Bytes& bytes, const Case& c, Sizes n) {
  Problem<T> p = any_problem<T>(bytes, c, n);
  const bool strange = strange_values(bytes, p);
  core::Inputs<T> in = p.inputs();
  const bool wrong = wrong_shape(bytes, in);
  const core::Plan<T> plan(p.spec, in);
  if (wrong) std::abort();
  Problem<T> other = p;  // that gives the same bits
  other.spec.threads = bytes.ConsumeIntegralInRange(0, 3);
  if (!p.spec.bf16) other.spec.checkpoint = core::Spec::off;
  const Run<T> run(p);
  if (!strange) same(Run<T>(other).results, run.results);
  if (!strange) stopped(p, bytes.ConsumeIntegralInRange(0, 3));
  const bool streams = !c.lengths && !c.resets && !c.h_mask && !c.zoneout && !p.spec.reverse &&
                       !p.spec.skip && p.spec.dilation == 1;
  if constexpr (!std::is_same_v<T, core::Dual>)
    if (streams && !strange)
      step_by_step(p, run.results, bytes.ConsumeIntegralInRange<Index>(1, 40));
  if (!p.spec.train) return;
  const core::BackwardSpec how = any_backward(bytes);
  const Arrays<T> gradients = run.gradients(how);
  if (!strange) same(Run<T>(other).gradients(how), gradients);
  if constexpr (!std::is_same_v<T, core::Dual>) {
    const Traced<T> traced(p, run.plan, bytes.ConsumeBool());
    const Arrays<T> again = run.gradients(how, traced.trace);
    if (!strange) same(again, gradients);
    Array<T> values({p.n.T, p.n.B, p.n.H});
    for (int i = 0; i < int(run.plan.names().size()); ++i)
      run.plan.read(run.tape.get(), i, values.data.data());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes bytes(data, size);
  const Case c = any_case(bytes);
  const Sizes n = {bytes.ConsumeIntegralInRange<Index>(0, rarely(bytes) ? 300 : 12),
                   bytes.ConsumeIntegralInRange<Index>(0, 18),
                   bytes.ConsumeIntegralInRange<Index>(0, 20),
                   bytes.ConsumeIntegralInRange<Index>(0, rarely(bytes) ? 130 : 36)};
  try {
    const std::vector<std::string> isas = core::available_isas();
    core::set_isa(isas[bytes.ConsumeIntegralInRange<std::size_t>(0, isas.size() - 1)]);
    switch (bytes.ConsumeIntegralInRange(0, 4)) {
      case 0: call<core::Dual>(bytes, c, n); break;
      case 1:
      case 2: call<double>(bytes, c, n); break;
      default: call<float>(bytes, c, n);
    }
  } catch (const std::invalid_argument&) {
  }
  return 0;
}
