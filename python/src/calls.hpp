// SPDX-License-Identifier: MIT
// One forward or backward call of the core on NumPy arrays.
#pragma once
#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "gil.hpp"
#include "owned.hpp"

using core::most_states;

template <class T>
py::array_t<T> make_state(py::ssize_t dilation, py::ssize_t B, py::ssize_t width) {
  return dilation > 1 ? make<T, 3>({dilation, B, width}) : make<T, 2>({B, width});
}

template <class T>
constexpr const char* name_of = "complex128";  // of dual numbers
template <>
constexpr const char* name_of<float> = "float32";
template <>
constexpr const char* name_of<double> = "float64";

// What backward needs of one forward call: the core's tape, and the arrays that it refers to.
struct Tape {
  virtual ~Tape() = default;
  // trace: 0 none, 1 norms, 2 the gradients as well
  virtual py::tuple backward(const core::BackwardSpec& spec, const py::object& dy,
                             const py::tuple& dstate, int trace) const = 0;
  virtual py::object value(const std::string& name) const = 0;
  virtual int gates() const = 0;  // of count_outside
  virtual py::object count_outside(const std::vector<double>& low,
                                   const std::vector<double>& high) const = 0;
  virtual py::object lengths() const = 0;              // (B,), or None: all T
  virtual std::vector<std::string> names() const = 0;  // of the gates and states that it holds
  std::string cell, dtype;
  py::tuple arguments;                 // of the forward call
  py::ssize_t dims[4] = {0, 0, 0, 0};  // T, B, I, H
  std::size_t bytes = 0;
};

template <class T>
struct TapeOf : Tape {
  core::Plan<T> plan;
  Buffer buffer;
  py::object x;
  py::array_t<T> y;
  bool has_b_ih, has_b_hh, has_peepholes, has_w_hr;
  int layer_norms;  // arrays of it
  py::ssize_t dilation;

  TapeOf(const core::Spec& spec, core::Plan<T> p, py::object x_array, py::tuple given,
         py::array_t<T> y_array, const core::Inputs<T>& in)
      : plan(std::move(p)),
        buffer(plan.tape_bytes()),
        x(std::move(x_array)),
        y(std::move(y_array)),
        has_b_ih(in.b_ih),
        has_b_hh(in.b_hh),
        has_peepholes(in.peepholes),
        has_w_hr(in.w_hr),
        layer_norms(in.layer_norm[2]   ? 4
                    : in.layer_norm[0] ? 2
                                       : 0),
        dilation(spec.dilation) {
    arguments = std::move(given);
    cell = spec.cell, dtype = name_of<T>;
    bytes = plan.tape_bytes();
    dims[0] = plan.steps(), dims[1] = plan.batch(), dims[2] = plan.input_size(),
    dims[3] = plan.hidden_size();
  }

  std::vector<std::string> names() const override {
    std::vector<std::string> all = plan.names();
    all.push_back("h");
    return all;
  }

  py::object lengths() const override {
    const std::vector<std::ptrdiff_t> kept = plan.lengths();
    if (kept.empty()) return py::none();
    auto out = make<std::int64_t, 1>({dims[1]});
    std::copy(kept.begin(), kept.end(), out.mutable_data());
    return std::move(out);
  }

  // A gate or state after every step, (T, B, H).
  py::object value(const std::string& name) const override {
    if (name == "h") return y;
    const std::vector<std::string> known = plan.names();
    const auto found = std::find(known.begin(), known.end(), name);
    if (found == known.end()) return py::none();
    auto out = make<T, 3>({dims[0], dims[1], dims[3]});
    plan.read(buffer.get(), static_cast<int>(found - known.begin()), out.mutable_data());
    return std::move(out);
  }

  int gates() const override { return plan.read_gates(); }
  // How many of each gate's values are outside, (T, B, gates); all gates, in the order of names.
  py::object count_outside(const std::vector<double>& low,
                           const std::vector<double>& high) const override {
    const auto n = static_cast<std::size_t>(gates());
    if (low.size() != n || high.size() != n)
      throw std::invalid_argument("count_outside: expected two bounds for each gate");
    auto counts = make<double, 3>({dims[0], dims[1], gates()});
    plan.count_outside(buffer.get(), low.data(), high.data(), counts.mutable_data());
    return std::move(counts);
  }

  py::tuple backward(const core::BackwardSpec& spec, const py::object& dy, const py::tuple& dstate,
                     int trace) const override {
    core::Cotangents<T> given;
    given.y = view<T>(dy);
    for (std::size_t q = 0; q < dstate.size() && q < most_states; ++q)
      given.state[q] = view<T>(dstate[q]);
    const py::ssize_t B = dims[1], I = dims[2], H = dims[3], P = plan.output_size(),
                      rows = plan.gates() * H;
    auto dx = make<T, 3>({dims[0], B, I});
    auto dw_ih = make<T, 2>({rows, I}), dw_hh = make<T, 2>({rows, plan.recurrent_size()});
    std::optional<py::array_t<T>> db_ih, db_hh, dpeepholes, dw_hr;
    if (has_w_hr) dw_hr = make<T, 2>({P, H});
    if (has_peepholes) dpeepholes = make<T, 2>({plan.gates() - 1, H});
    if (has_b_ih) db_ih = make<T, 1>({rows});
    if (has_b_hh) db_hh = make<T, 1>({rows});
    py::tuple dstate0(static_cast<std::size_t>(plan.states()));
    core::Gradients<T> out{};
    for (std::size_t q = 0; q < dstate0.size(); ++q) {
      auto d = make_state<T>(dilation, B, q ? H : P);
      out.state[q] = d.mutable_data();
      dstate0[q] = std::move(d);
    }
    out.x = dx.mutable_data(), out.w_ih = dw_ih.mutable_data(), out.w_hh = dw_hh.mutable_data();
    out.b_ih = db_ih ? db_ih->mutable_data() : nullptr,
    out.b_hh = db_hh ? db_hh->mutable_data() : nullptr;
    out.peepholes = dpeepholes ? dpeepholes->mutable_data() : nullptr;
    out.w_hr = dw_hr ? dw_hr->mutable_data() : nullptr;
    py::object dlayer_norm = py::none();
    if (layer_norms) {
      py::tuple arrays(static_cast<std::size_t>(layer_norms));
      for (std::size_t i = 0; i < arrays.size(); ++i) {
        auto d = make<T, 1>({i < 2 ? rows : H});
        out.layer_norm[i] = d.mutable_data();
        arrays[i] = std::move(d);
      }
      dlayer_norm = std::move(arrays);
    }
    py::tuple traced = trace_arrays(trace, out.trace);
    const Buffer scratch(plan.backward_scratch_bytes(out.trace));
    const T *x_data = view<T>(x).data, *y_data = y.data();
    run_interruptibly([&](core::StopRequest stop) {
      return plan.backward(spec, x_data, y_data, given, out, buffer.get(), scratch.get(), stop);
    });
    return py::make_tuple(std::move(dx), std::move(dw_ih), std::move(dw_hh), std::move(db_ih),
                          std::move(db_hh), std::move(dstate0), std::move(dpeepholes),
                          std::move(dw_hr), std::move(dlayer_norm), std::move(traced));
  }

  // New arrays for a trace, in the order of core::Trace; None for what is not there.
  py::tuple trace_arrays(int level, core::Trace<T>& trace) const {
    py::list arrays;
    const auto add = [&](auto*& pointer, bool wanted, py::ssize_t width) {
      if (!wanted) return arrays.append(py::none());
      auto array = make<std::remove_reference_t<decltype(*pointer)>, 3>({dims[0], dims[1], width});
      pointer = array.mutable_data();
      arrays.append(std::move(array));
    };
    const bool full = level > 1;
    const py::ssize_t H = dims[3], G = plan.gates();
    add(trace.norms, level > 0, G + 4);
    add(trace.dh, full, plan.output_size());
    add(trace.dc, full && plan.states() > 1, H);
    add(trace.gates, full, G * H);
    add(trace.apart, full && plan.has_apart(), H);
    add(trace.operand, full, plan.recurrent_size());
    add(trace.inner, full && plan.has_inner(), H);
    add(trace.x, full, dims[2]);
    return py::tuple(arrays);
  }
};

// The arguments of a forward call that are arrays; None where left out.
struct Arrays {
  py::handle x, w_ih, w_hh, b_ih, b_hh, lengths;
  py::handle state[most_states] = {py::none(), py::none(), py::none(), py::none()};
  py::handle peepholes = py::none(), w_hr = py::none(), h_mask = py::none(), resets = py::none();
  py::handle zoneout[2] = {py::none(), py::none()};
  py::handle layer_norm[4] = {py::none(), py::none(), py::none(), py::none()};

  // As they lie, all of one type?
  template <class T>
  bool all_usable() const {
    for (py::handle required : {x, w_ih, w_hh})
      if (!usable<T>(required)) return false;
    for (py::handle optional :
         {b_ih, b_hh, state[0], state[1], state[2], state[3], peepholes, w_hr, h_mask, zoneout[0],
          zoneout[1], layer_norm[0], layer_norm[1], layer_norm[2], layer_norm[3]})
      if (!optional.is_none() && !usable<T>(optional)) return false;
    return (lengths.is_none() || usable<std::int64_t>(lengths)) &&
           (resets.is_none() || usable<bool>(resets));
  }

  template <class T>
  core::Inputs<T> inputs() const {
    core::Inputs<T> in;
    in.x = view<T>(x);
    in.w_ih = view<T>(w_ih), in.w_hh = view<T>(w_hh);
    in.b_ih = view<T>(b_ih), in.b_hh = view<T>(b_hh);
    in.lengths = view<std::int64_t>(lengths);
    in.peepholes = view<T>(peepholes), in.w_hr = view<T>(w_hr), in.h_mask = view<T>(h_mask);
    for (int q = 0; q < 2; ++q) in.zoneout[q] = view<T>(zoneout[q]);
    in.resets = view<std::uint8_t>(resets);
    for (int i = 0; i < 4; ++i) in.layer_norm[i] = view<T>(layer_norm[i]);
    for (int q = 0; q < most_states; ++q) in.state[q] = view<T>(state[q]);
    return in;
  }
};

// Those that most calls leave as they are: None, or a dict of what they are called in core::Spec
// and core::Inputs.
inline void read_options(py::handle given, core::Spec& spec, Arrays& arrays) {
  if (given.is_none()) return;
  for (auto [key, value] : py::reinterpret_borrow<py::dict>(given)) {
    const auto name = py::cast<std::string>(key);
    const auto is = [&](const char* other) { return name == other; };
    if (is("gate_activation"))
      spec.gate_activation = py::cast<std::string>(value);
    else if (is("output_activation"))
      spec.output_activation = py::cast<std::string>(value);
    else if (is("forget_gate"))
      spec.forget_gate = py::cast<std::string>(value);
    else if (is("reset_after"))
      spec.reset_after = py::cast<bool>(value);
    else if (is("leak"))
      spec.leak = py::cast<double>(value);
    else if (is("cell_clip"))
      spec.cell_clip = py::cast<double>(value);
    else if (is("preact_clip"))
      spec.preact_clip = py::cast<double>(value);
    else if (is("dilation"))
      spec.dilation = py::cast<py::ssize_t>(value);
    else if (is("skip"))
      spec.skip = py::cast<py::ssize_t>(value);
    else if (is("zoneout_h"))
      spec.zoneout[0] = py::cast<double>(value);
    else if (is("zoneout_c"))
      spec.zoneout[1] = py::cast<double>(value);
    else if (is("zoneout_of_h"))
      arrays.zoneout[0] = value;
    else if (is("zoneout_of_c"))
      arrays.zoneout[1] = value;
    else if (is("layer_norm"))
      std::copy_n(py::cast<py::tuple>(value).begin(),
                  std::min(py::len(value), std::size(arrays.layer_norm)), arrays.layer_norm);
    else if (is("peepholes"))
      arrays.peepholes = value;
    else if (is("w_hr"))
      arrays.w_hr = value;
    else if (is("h_mask"))
      arrays.h_mask = value;
    else if (is("resets"))
      arrays.resets = value;
    else if (is("heads"))
      continue;  // bptt/functional/slstm.py has made w_hh dense
    else
      throw py::type_error("forward: unknown option " + name);
  }
}

// (y, final state, tape or None); the tape keeps what was given
template <class T>
py::tuple forward(const core::Spec& spec, const Arrays& arrays, py::tuple given) {
  const core::Inputs<T> in = arrays.inputs<T>();
  core::Plan<T> plan(spec, in);
  const py::ssize_t B = plan.batch(), H = plan.hidden_size(), P = plan.output_size();
  auto y = make<T, 3>({plan.steps(), B, P});
  core::Outputs<T> out{};
  out.y = y.mutable_data();
  std::array<py::object, most_states> finals;
  for (int q = 0; q < plan.states(); ++q) {
    auto s = make_state<T>(spec.dilation, B, q ? H : P);
    out.state[q] = s.mutable_data();
    finals[static_cast<std::size_t>(q)] = std::move(s);
  }
  const Buffer scratch(plan.forward_scratch_bytes());
  const int states = plan.states();
  py::object tape = py::none();
  const auto run = [&](const core::Plan<T>& p, void* memory) {
    run_interruptibly(
        [&](core::StopRequest stop) { return p.forward(in, out, memory, scratch.get(), stop); });
  };
  if (spec.train) {
    auto kept = std::make_unique<TapeOf<T>>(spec, std::move(plan),
                                            py::reinterpret_borrow<py::object>(arrays.x),
                                            std::move(given), y, in);
    run(kept->plan, kept->buffer.get());
    make_read_only(y);  // the tape refers to it
    tape = owned(std::unique_ptr<Tape>(std::move(kept)));
  } else {
    run(plan, nullptr);
  }
  if (states == 1) return py::make_tuple(std::move(y), std::move(finals[0]), std::move(tape));
  py::tuple state(static_cast<std::size_t>(states));
  for (std::size_t q = 0; q < state.size(); ++q) state[q] = std::move(finals[q]);
  return py::make_tuple(std::move(y), std::move(state), std::move(tape));
}
