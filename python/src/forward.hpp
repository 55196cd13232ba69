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
#include "targets/select.hpp"
#include "threads/count.hpp"

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

// --- forward(cell, inputs, options, keep_tape, how): returns None where an argument is not as the
// core needs it, which Python then converts. forward_dual is the same for dual numbers, in complex
// arrays. Both use the fast calling convention, since pybind11 takes longer to sort arguments than
// a small network takes for a step.

enum Argument { cell, inputs, options, keep_tape, how, arguments };
// The tuple `inputs`, and the tuple `how`; None in place of `how` has its defaults.
enum Input { x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, input_count };
enum How { threads, checkpoint, bf16, how_count };

inline const char* const input_names[input_count] = {"x",    "w_ih",  "w_hh",    "b_ih",
                                                     "b_hh", "state", "lengths", "reverse"};
inline const char* const how_names[how_count] = {"threads", "checkpoint", "bf16"};

// A copy of a call's options, which a caller may change: the tape keeps its own.
inline py::object copied_options(const py::tuple& given) {
  const py::object kept = given[options];
  return kept.is_none() ? kept : kept.attr("copy")();
}

// The arguments of a forward call, by name.
inline py::dict named(const py::tuple& given) {
  py::dict by_name;
  by_name["cell"] = given[cell];
  const auto in = py::reinterpret_borrow<py::tuple>(given[inputs]);
  for (std::size_t i = 0; i < input_count; ++i) by_name[input_names[i]] = in[i];
  const py::object chosen = copied_options(given);
  const bool named_activation = !chosen.is_none() && chosen.contains("activation");
  by_name["activation"] = named_activation ? chosen["activation"] : py::str("tanh");
  by_name["options"] = chosen, by_name["keep_tape"] = given[keep_tape];
  py::tuple limits = py::make_tuple(py::none(), py::none(), false);
  if (!given[how].is_none()) limits = py::reinterpret_borrow<py::tuple>(given[how]);
  for (std::size_t i = 0; i < how_count; ++i) by_name[how_names[i]] = limits[i];
  return by_name;
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
  return tuple.size() == static_cast<std::size_t>(states) && states > 1;
}

// given: None, or the tuple `how`. False: to be converted or refused.
inline bool read_how(py::handle given, core::Spec& spec) {
  if (given.is_none()) return true;
  PyObject *count = PyTuple_GET_ITEM(given.ptr(), threads),
           *segments = PyTuple_GET_ITEM(given.ptr(), checkpoint),
           *narrow = PyTuple_GET_ITEM(given.ptr(), bf16);
  if (count != Py_None) {
    const Py_ssize_t n = PyLong_CheckExact(count) ? PyLong_AsSsize_t(count) : 0;
    if (n < 1 || n > core::most_threads) return PyErr_Clear(), false;
    spec.threads = static_cast<int>(n);
  }
  if (PyUnicode_Check(segments)) {
    if (PyUnicode_CompareWithASCIIString(segments, "sqrt") != 0) return false;
    spec.checkpoint = core::Spec::sqrt;
  } else if (segments != Py_None) {
    const Py_ssize_t bytes = PyLong_CheckExact(segments) ? PyLong_AsSsize_t(segments) : -1;
    if (bytes < 0) return PyErr_Clear(), false;
    spec.checkpoint = core::Spec::bytes, spec.max_bytes = static_cast<std::size_t>(bytes);
  }
  spec.bf16 = narrow == Py_True;
  return narrow == Py_None || PyBool_Check(narrow);
}

template <class... T>
py::object forward_or_none(PyObject* const* a, Py_ssize_t count) {
  if (count != arguments || !PyUnicode_Check(a[cell]) || !PyTuple_Check(a[inputs]) ||
      PyTuple_GET_SIZE(a[inputs]) != input_count)
    throw py::type_error("forward: expected (cell, inputs, options, keep_tape, how)");
  const auto input = [&](Input i) { return py::handle(PyTuple_GET_ITEM(a[inputs], i)); };
  const bool train = a[keep_tape] == Py_True, backwards = input(reverse).ptr() == Py_True;
  if (!(train || a[keep_tape] == Py_False) || !(backwards || input(reverse).ptr() == Py_False))
    return py::none();
  core::Spec spec;
  spec.cell = PyUnicode_AsUTF8(a[cell]), spec.caller = spec.cell + "_forward";
  spec.train = train, spec.reverse = backwards;
  Arrays arrays{input(x), input(w_ih), input(w_hh), input(b_ih), input(b_hh), input(lengths)};
  if (!read_state(input(state), spec.cell, arrays)) return py::none();
  if (!read_how(a[how], spec)) return py::none();
  read_options(a[options], spec, arrays);
  py::tuple kept;
  if (train)
    kept = py::make_tuple(py::handle(a[cell]), py::handle(a[inputs]), py::handle(a[options]),
                          py::handle(a[keep_tape]), py::handle(a[how]));
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
