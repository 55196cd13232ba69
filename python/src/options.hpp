// SPDX-License-Identifier: MIT
// The arguments of a forward call: its arrays, and a table of its options.
#pragma once
#include <pybind11/stl.h>

#include <algorithm>
#include <iterator>
#include <type_traits>

#include "arrays.hpp"

using core::max_states;

// The arrays; None where left out.
struct Arrays {
  py::handle x, w_ih, w_hh, b_ih, b_hh, lengths;
  py::handle state[max_states] = {py::none(), py::none(), py::none(), py::none()};
  py::handle peepholes = py::none(), w_hr = py::none(), leak = py::none();
  py::handle h_mask = py::none(), resets = py::none();
  py::handle zoneout[2] = {py::none(), py::none()};
  py::handle layer_norm[4] = {py::none(), py::none(), py::none(), py::none()};

  // Can the core use them all without a copy, and are they of type T?
  template <class T>
  bool all_usable() const {
    for (py::handle required : {x, w_ih, w_hh})
      if (!usable<T>(required)) return false;
    for (py::handle optional :
         {b_ih, b_hh, state[0], state[1], state[2], state[3], peepholes, w_hr, leak, h_mask,
          zoneout[0], zoneout[1], layer_norm[0], layer_norm[1], layer_norm[2], layer_norm[3]})
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
    in.leak = view<T>(leak);
    for (int q = 0; q < 2; ++q) in.zoneout[q] = view<T>(zoneout[q]);
    in.resets = view<std::uint8_t>(resets);
    for (int i = 0; i < 4; ++i) in.layer_norm[i] = view<T>(layer_norm[i]);
    for (int q = 0; q < max_states; ++q) in.state[q] = view<T>(state[q]);
    return in;
  }
};

// --- options, which most calls leave out

// Sets an option of the spec or one of the arrays.
struct Option {
  const char* name;
  void (*set)(py::handle value, core::Spec& spec, Arrays& arrays);
};
template <auto member>
void set_spec(py::handle value, core::Spec& spec, Arrays&) {
  spec.*member = py::cast<std::decay_t<decltype(spec.*member)>>(value);
}
// value: a pair for h and for the other states, each None, a number or an array.
inline void set_zoneout(py::handle value, core::Spec& spec, Arrays& arrays) {
  for (int q = 0; q < 2; ++q) {
    const py::handle amount = PyTuple_GET_ITEM(value.ptr(), q);
    if (py::isinstance<py::array>(amount))
      arrays.zoneout[q] = amount;
    else if (!amount.is_none())
      spec.zoneout[q] = py::cast<double>(amount);
  }
}
// value: a name, or a tuple of a name and its parameters.
template <core::NamedActivation core::Spec::* member>
void set_activation(py::handle value, core::Spec& spec, Arrays&) {
  if (!PyTuple_Check(value.ptr())) {
    spec.*member = py::cast<std::string>(value);
    return;
  }
  const auto parts = py::reinterpret_borrow<py::tuple>(value);
  core::NamedActivation& f = spec.*member = py::cast<std::string>(parts[0]);
  for (std::size_t i = 1; i < parts.size() && i <= std::size(f.parameters); ++i, ++f.given)
    f.parameters[i - 1] = py::cast<double>(parts[i]);
}
// value: a number, or an array of one for each unit.
inline void set_leak(py::handle value, core::Spec& spec, Arrays& arrays) {
  spec.unit_leak = py::isinstance<py::array>(value);
  if (spec.unit_leak)
    arrays.leak = value;
  else
    spec.leak = py::cast<double>(value);
}
template <auto member>
void set_array(py::handle value, core::Spec&, Arrays& arrays) {
  arrays.*member = value;
}
inline void set_layer_norm(py::handle value, core::Spec&, Arrays& arrays) {
  std::copy_n(py::cast<py::tuple>(value).begin(),
              std::min(py::len(value), std::size(arrays.layer_norm)), arrays.layer_norm);
}

inline constexpr Option option_table[] = {
    {"activation", set_activation<&core::Spec::activation>},
    {"gate_activation", set_activation<&core::Spec::gate_activation>},
    {"output_activation", set_activation<&core::Spec::output_activation>},
    {"leak", set_leak},  // found before the number
    {"forget_gate", set_spec<&core::Spec::forget_gate>},
    {"reset_after", set_spec<&core::Spec::reset_after>},
#define BPTT_OPTION(name, standard, least, most) {#name, set_spec<&core::Spec::name>},
#include "kernels/options.inc"
#undef BPTT_OPTION
    {"dilation", set_spec<&core::Spec::dilation>},
    {"skip", set_spec<&core::Spec::skip>},
    {"zoneout", set_zoneout},
    {"layer_norm", set_layer_norm},
    {"peepholes", set_array<&Arrays::peepholes>},
    {"w_hr", set_array<&Arrays::w_hr>},
    {"h_mask", set_array<&Arrays::h_mask>},
    {"resets", set_array<&Arrays::resets>},
    {"heads", [](py::handle, core::Spec&, Arrays&) {}},  // Python has made w_hh dense
};

// given: None, or a dict of options by their names in the table.
inline void read_options(py::handle given, core::Spec& spec, Arrays& arrays) {
  if (given.is_none()) return;
  for (auto [key, value] : py::reinterpret_borrow<py::dict>(given)) {
    const PyObject* name = key.ptr();
    const auto* found =
        std::find_if(std::begin(option_table), std::end(option_table), [&](const Option& option) {
          return PyUnicode_CompareWithASCIIString(const_cast<PyObject*>(name), option.name) == 0;
        });
    if (found == std::end(option_table))
      throw py::type_error("forward: unknown option " + py::cast<std::string>(key));
    found->set(value, spec, arrays);
  }
}

// given(defaults, values): a dict of the options among `values`, a tuple in the order of the dict
// `defaults`, that are not their default objects; None where there are none. By identity, since an
// argument of a wrong kind may equal the default or have no truth.
inline PyObject* options_given(PyObject*, PyObject* const* args, Py_ssize_t count) {
  if (count != 2 || !PyDict_Check(args[0]) || !PyTuple_Check(args[1]) ||
      PyDict_GET_SIZE(args[0]) != PyTuple_GET_SIZE(args[1])) {
    PyErr_SetString(PyExc_TypeError, "given: expected a dict, and a tuple of as many values");
    return nullptr;
  }
  PyObject *name = nullptr, *initial = nullptr, *others = nullptr;
  for (Py_ssize_t at = 0, i = 0; PyDict_Next(args[0], &at, &name, &initial); ++i) {
    PyObject* value = PyTuple_GET_ITEM(args[1], i);
    if (value == initial) continue;
    if (!others) others = PyDict_New();
    if (!others || PyDict_SetItem(others, name, value)) {
      Py_XDECREF(others);
      return nullptr;
    }
  }
  return others ? others : Py_NewRef(Py_None);
}
