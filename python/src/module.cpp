// SPDX-License-Identifier: MIT
// The binding: array arguments in, arrays out. Documented in bptt/functional.py.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <new>
#include <stdexcept>

#include "engine/fingerprint.hpp"
#include "targets/select.hpp"
#include "threads/count.hpp"
#include "calls.hpp"
#include "streams.hpp"

namespace {

// --- forward(cell, x, w_ih, w_hh, b_ih, b_hh, state, lengths, reverse, keep_tape, activation,
// threads, checkpoint, max_bytes, bf16, options): None where an argument is not as the core needs
// it, which bptt/_call.py then converts. forward_dual is that of dual numbers, in complex arrays.
// By the fast calling convention, since a step of a small network takes less time than pybind11 to
// sort its arguments.

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

const char* const argument_names[arguments] = {
    "cell",    "x",         "w_ih",       "w_hh",    "b_ih",       "b_hh",      "state", "lengths",
    "reverse", "keep_tape", "activation", "threads", "checkpoint", "max_bytes", "bf16",  "options"};

py::tuple tuple_of(PyObject* const* a) {
  py::tuple all(static_cast<std::size_t>(arguments));
  for (std::size_t i = 0; i < arguments; ++i) all[i] = py::handle(a[i]);
  return all;
}

// One array for a cell of one state, else a tuple.
bool read_state(py::handle given, const std::string& name, Arrays& arrays) {
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
  for (std::size_t q = 0; q < tuple.size() && q < most_states; ++q) arrays.state[q] = tuple[q];
  return tuple.size() >= static_cast<std::size_t>(states) && states > 1;
}

bool read_spec(PyObject* const* a, core::Spec& spec) {
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

// Python's exception for that in flight.
void set_python_error() {
  try {
    throw;
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::invalid_argument& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_RuntimeError, error.what());
  }
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

// fingerprint(array): of the bytes of a C-contiguous one. Not by pybind11 either, which takes
// longer than the function itself.
PyObject* fingerprint(PyObject*, PyObject* given) {
  try {
    const auto array = py::reinterpret_borrow<py::array>(given);
    if (!py::isinstance<py::array>(array) || !(array.flags() & py::array::c_style))
      throw py::type_error("fingerprint: expected a C-contiguous array");
    return PyLong_FromUnsignedLongLong(
        core::fingerprint(array.data(), static_cast<std::size_t>(array.nbytes())));
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

py::object fingerprint_function() {
  static PyMethodDef definition = {"fingerprint", fingerprint, METH_O, nullptr};
  return py::reinterpret_steal<py::object>(PyCFunction_NewEx(&definition, nullptr, nullptr));
}

// kind and target by name; no kind: no clipping.
core::StepClipping step_clipping(const std::string& kind, double bound, const std::string& target) {
  core::StepClipping clip;
  if (kind == "value") clip.kind = core::StepClipping::value;
  if (kind == "norm") clip.kind = core::StepClipping::norm;
  if (target == "c") clip.target = core::StepClipping::c;
  if (target == "gates") clip.target = core::StepClipping::gates;
  clip.bound = bound;
  return clip;
}

}  // namespace

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
  m.attr("__version__") = BPTT_VERSION;
  // pybind11 throws a RuntimeError where Python has no memory for a list: Python's own error stays.
  py::register_local_exception_translator([](std::exception_ptr error) {
    if (!PyErr_Occurred()) std::rethrow_exception(error);
  });
  main_thread =
      py::cast<unsigned long>(py::module_::import("threading").attr("main_thread")().attr("ident"));
  py::class_<Tape>(m, "Tape")
      .def_readonly("cell", &Tape::cell)
      .def_readonly("dtype", &Tape::dtype)
      .def_property_readonly("arguments",
                             [](const Tape& t) {
                               py::dict named;
                               for (std::size_t i = 0; i < arguments; ++i)
                                 named[argument_names[i]] = t.arguments[i];
                               return named;
                             })
      .def_property_readonly("options",
                             [](const Tape& t) { return py::object(t.arguments[options]); })
      .def_property_readonly("lengths", &Tape::lengths)
      .def_readonly("nbytes", &Tape::bytes)
      .def_property_readonly("gates", &Tape::gates)
      .def("count_outside", &Tape::count_outside)
      .def("__reduce_ex__",
           [](const Tape& t, int) -> py::object {
             throw py::type_error("the tape of " + t.cell +
                                  " holds memory of the core and cannot be pickled or copied: call "
                                  "forward again");
           })
      .def_property_readonly(
          "dims",
          [](const Tape& t) { return py::make_tuple(t.dims[0], t.dims[1], t.dims[2], t.dims[3]); })
      .def_property_readonly("names", &Tape::names)
      .def("__getattr__",
           [](const Tape& t, const std::string& name) {
             py::object value = t.value(name);
             if (!value.is_none()) return value;
             std::string known;
             for (const std::string& n : t.names()) known += (known.empty() ? "" : ", ") + n;
             throw py::attribute_error("the tape of " + t.cell + " has no '" + name +
                                       "', expected one of: " + known);
           })
      .def("__repr__", [](const Tape& t) {
        std::string text = "Tape(" + t.cell;
        for (int i = 0; i < 4; ++i)
          text += std::string(", ") + "TBIH"[i] + "=" + std::to_string(t.dims[i]);
        return text + ", " + t.dtype + ", " + std::to_string((t.bytes + 512) / 1024) + " KiB)";
      });
  m.attr("forward") = forward_function<float, double>("forward");
  m.attr("forward_dual") = forward_function<core::Dual>("forward_dual");
  m.def("backward", [](const std::string& caller, const Tape& tape, const py::object& dy,
                       const py::tuple& dstate, const std::string& clip, double bound,
                       const std::string& target, py::ssize_t cut, int threads, int trace) {
    return tape.backward({step_clipping(clip, bound, target), cut, threads, caller}, dy, dstate,
                         trace);
  });
  m.attr("fingerprint") = fingerprint_function();
  m.attr("MOST_THREADS") = core::most_threads;
  m.def("threads", &core::threads);
  m.def("expect_siblings", &core::expect_siblings);
  m.def("has_bf16", &core::has_bf16);
  m.def("set_threads", &core::set_threads);
  bind_stream(m);
  m.def("compiled_isas", &core::compiled_isas);
  m.def("isas", &core::available_isas);
  m.def("isa", &core::active_isa);
  m.def("use_isa", &core::set_isa);
  m.def("fma_gflops", [](double seconds) {
    double rate = 0;
    run_interruptibly([&](core::StopRequest) {
      rate = core::fma_gflops(seconds);
      return true;
    });
    return rate;
  });
  m.def("cells", [] {
    py::dict cells;
    for (const core::CellInfo& cell : core::cells())
      cells[py::str(cell.name)] = py::make_tuple(cell.gates, cell.states);
    return cells;
  });
}
