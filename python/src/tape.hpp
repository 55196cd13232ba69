// SPDX-License-Identifier: MIT
// The tape of one forward call, and the backward calls on it.
#pragma once
#include <algorithm>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "gil.hpp"

using core::max_states;

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

// A forward call's part in backward: the core's tape, and the arrays that it refers to.
struct Tape {
  virtual ~Tape() = default;
  // trace: 0 none, 1 norms, 2 the gradients as well. wanted: bit k for field k of Python's Grads.
  // Returns these fields, None where not wanted, with the arrays of the trace as the last.
  virtual py::tuple backward(const core::BackwardSpec& spec, const py::object& dy,
                             const py::tuple& dstate, int trace, unsigned wanted) const = 0;
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
    dims[0] = plan.dims().T, dims[1] = plan.dims().B, dims[2] = plan.dims().I,
    dims[3] = plan.dims().H;
  }

  std::vector<std::string> names() const override {
    std::vector<std::string> all = plan.names();
    all.push_back("h");
    return all;
  }

  py::object lengths() const override {
    const std::vector<core::Index>& kept = plan.lengths();
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

  int gates() const override { return plan.cell().values; }
  // Counts of each gate's values outside their bounds, (T, B, gates), in the order of names.
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
                     int trace, unsigned wanted) const override {
    core::Cotangents<T> given;
    given.y = view<T>(dy);
    for (std::size_t q = 0; q < dstate.size() && q < max_states; ++q)
      given.state[q] = view<T>(dstate[q]);
    const py::ssize_t B = dims[1], I = dims[2], H = dims[3], P = plan.dims().P,
                      rows = plan.cell().gates * H;
    core::Gradients<T> out{};
    const auto wants = [&](int field) { return (wanted >> field & 1u) != 0; };
    // A new array, to which `data` then points; or None.
    const auto result = [](bool is_wanted, const auto& shape, T*& data) -> py::object {
      if (!is_wanted) return py::none();
      auto array = make<T>(shape);
      data = array.mutable_data();
      return std::move(array);
    };
    py::object dx = result(wants(0), std::array{dims[0], B, I}, out.x);
    py::object dw_ih = result(wants(1), std::array{rows, I}, out.w_ih);
    py::object dw_hh = result(wants(2), std::array{rows, plan.dims().U}, out.w_hh);
    py::object db_ih = result(wants(3) && has_b_ih, std::array{rows}, out.b_ih);
    py::object db_hh = result(wants(4) && has_b_hh, std::array{rows}, out.b_hh);
    py::object dpeepholes =
        result(wants(6) && has_peepholes, std::array{py::ssize_t(plan.cell().gates - 1), H},
               out.peepholes);
    py::object dw_hr = result(wants(7) && has_w_hr, std::array{P, H}, out.w_hr);
    py::object dinitial = py::none(), dlayer_norm = py::none(), traced = py::none();
    if (wants(5)) {
      py::tuple states(static_cast<std::size_t>(plan.cell().states));
      for (std::size_t q = 0; q < states.size(); ++q) {
        auto d = make_state<T>(dilation, plan.initial_rows(), q ? H : P);
        out.state[q] = d.mutable_data();
        states[q] = std::move(d);
      }
      dinitial = states;
      if (states.size() == 1) dinitial = states[0];
    }
    if (wants(8) && layer_norms) {
      py::tuple arrays(static_cast<std::size_t>(layer_norms));
      for (std::size_t i = 0; i < arrays.size(); ++i)
        arrays[i] = result(true, std::array{i < 2 ? rows : H}, out.layer_norm[i]);
      dlayer_norm = std::move(arrays);
    }
    if (trace > 0) traced = trace_arrays(trace, out.trace);
    const Buffer scratch(plan.backward_scratch_bytes(out));
    const T *x_data = view<T>(x).data, *y_data = y.data();
    run_interruptibly([&](core::StopRequest stop) {
      return plan.backward(spec, x_data, y_data, given, out, buffer.get(), scratch.get(), stop);
    });
    return py::make_tuple(std::move(dx), std::move(dw_ih), std::move(dw_hh), std::move(db_ih),
                          std::move(db_hh), std::move(dinitial), std::move(dpeepholes),
                          std::move(dw_hr), std::move(dlayer_norm), std::move(traced));
  }

  // New arrays for a trace: norms, then the fields of Python's FullTrace; None for absent ones.
  py::tuple trace_arrays(int level, core::Trace<T>& trace) const {
    py::tuple arrays(8);
    std::size_t n = 0;
    const auto add = [&](auto*& pointer, bool wanted, py::ssize_t width) {
      py::object array = py::none();
      if (wanted) {
        auto made = make<std::remove_reference_t<decltype(*pointer)>, 3>({dims[0], dims[1], width});
        pointer = made.mutable_data();
        array = std::move(made);
      }
      arrays[n++] = std::move(array);
    };
    const bool full = level > 1;
    const py::ssize_t H = dims[3], G = plan.cell().gates;
    add(trace.norms, true, G + 4);
    add(trace.dh, full, plan.dims().P);
    add(trace.dc, full && plan.cell().states > 1, H);
    add(trace.gates, full, G * H);
    add(trace.x, full, dims[2]);
    add(trace.operand, full, plan.dims().U);
    add(trace.second_operand, full && plan.cell().second_product, H);
    add(trace.candidate_hh, full && plan.cell().split_gate, H);
    return arrays;
  }
};
