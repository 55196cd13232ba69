// SPDX-License-Identifier: MIT
// The forward call.
#pragma once
#include <memory>
#include <utility>
#include <vector>

#include "errors.hpp"
#include "options.hpp"
#include "owned.hpp"
#include "tape.hpp"

// Returns (y, final state, tape or None); the tape keeps the arguments `given`.
template <class T>
py::tuple forward(const core::Spec& spec, const Arrays& arrays, py::tuple given) {
  const core::Inputs<T> in = arrays.inputs<T>();
  core::Plan<T> plan(spec, in);
  const py::ssize_t B = plan.dims().B, H = plan.dims().H, P = plan.dims().P;
  auto y = make<T, 3>({plan.dims().T, B, P});
  core::Outputs<T> out{};
  out.y = y.mutable_data();
  std::array<py::object, max_states> finals;
  for (int q = 0; q < plan.cell().states; ++q) {
    auto s = make_state<T>(spec.dilation, B, q ? H : P);
    out.state[q] = s.mutable_data();
    finals[static_cast<std::size_t>(q)] = std::move(s);
  }
  const Buffer scratch(plan.forward_scratch_bytes());
  const int states = plan.cell().states;
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

// --- forward(cell, x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, keep_tape, activation,
// threads, checkpoint, max_bytes, bf16, options): returns None where an argument is not as the
// core needs it, which Python then converts. forward_dual is the same for dual numbers, in complex
// arrays. Both use the fast calling convention, since pybind11 takes longer to sort arguments than
// a small network takes for a step.

enum Argument {
  cell,
  x,
  w_ih,
  w_hh,
  b_ih,
  b_hh,
  state,
  lengths,
  reverse,
  keep_tape,
  activation,
  threads,
  checkpoint,
  max_bytes,
  bf16,
  options,
  arguments
};

inline const char* const argument_names[arguments] = {
    "cell",    "x",         "w_ih",       "w_hh",    "b_ih",       "b_hh",      "state", "lengths",
    "reverse", "keep_tape", "activation", "threads", "checkpoint", "max_bytes", "bf16",  "options"};

inline py::tuple tuple_of(PyObject* const* a) {
  py::tuple all(static_cast<std::size_t>(arguments));
  for (std::size_t i = 0; i < arguments; ++i) all[i] = py::handle(a[i]);
  return all;
}

// given: one array for a cell of one state, else a tuple. False: neither.
inline bool read_state(py::handle given, const std::string& name, Arrays& arrays) {
  static const std::vector<core::CellInfo> cells = core::cells();
  int states = 1;
  for (const core::CellInfo& known : cells)
    if (known.name == name) states = known.states;
  if (given.is_none()) return true;
  if (!PyTuple_Check(given.ptr())) {
    arrays.state[0] = given;
    return states == 1;
  }
  const auto tuple = py::reinterpret_borrow<py::tuple>(given);
  for (std::size_t q = 0; q < tuple.size() && q < max_states; ++q) arrays.state[q] = tuple[q];
  return tuple.size() >= static_cast<std::size_t>(states) && states > 1;
}

inline bool read_spec(PyObject* const* a, core::Spec& spec) {
  if (!PyBool_Check(a[reverse]) || !PyBool_Check(a[keep_tape])) return false;
  const char *name = PyUnicode_Check(a[cell]) ? PyUnicode_AsUTF8(a[cell]) : nullptr,
             *function = PyUnicode_Check(a[activation]) ? PyUnicode_AsUTF8(a[activation]) : nullptr;
  if (!name || !function) return false;
  spec.cell = name, spec.activation = function;
  spec.caller = spec.cell + "_forward";
  spec.reverse = a[reverse] == Py_True, spec.train = a[keep_tape] == Py_True;
  spec.bf16 = a[bf16] == Py_True;
  if (a[threads] != Py_None) spec.threads = py::cast<int>(py::handle(a[threads]));
  if (a[checkpoint] != Py_None) spec.checkpoint = core::Spec::sqrt;
  if (a[max_bytes] != Py_None) {
    spec.checkpoint = core::Spec::bytes;
    spec.max_bytes = py::cast<std::size_t>(py::handle(a[max_bytes]));
  }
  return true;
}

template <class... T>
py::object forward_or_none(PyObject* const* a, Py_ssize_t count) {
  core::Spec spec;
  if (count != arguments) throw py::type_error("forward: wrong number of arguments");
  Arrays arrays{a[x], a[w_ih], a[w_hh], a[b_ih], a[b_hh], a[lengths]};
  if (!read_spec(a, spec) || !read_state(a[state], spec.cell, arrays)) return py::none();
  read_options(a[options], spec, arrays);
  py::tuple kept = spec.train ? tuple_of(a) : py::tuple();
  py::object result = py::none();
  const auto run = [&](auto type) {
    using Element = decltype(type);
    if (!arrays.all_usable<Element>()) return false;
    result = forward<Element>(spec, arrays, std::move(kept));
    return true;
  };
  static_cast<void>((run(T()) || ...));
  return result;
}

template <class... T>
PyObject* fast_forward(PyObject*, PyObject* const* args, Py_ssize_t count) {
  try {
    return forward_or_none<T...>(args, count).release().ptr();
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

template <class... T>
py::object forward_function(const char* name) {
  static PyMethodDef definition = {
      name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(fast_forward<T...>)),
      METH_FASTCALL, nullptr};
  return py::reinterpret_steal<py::object>(PyCFunction_NewEx(&definition, nullptr, nullptr));
}
