// SPDX-License-Identifier: MIT
// The module bptt._core: array arguments in, arrays out.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "dense.hpp"
#include "engine/fingerprint.hpp"
#include "forward.hpp"
#include "prepared.hpp"
#include "streams.hpp"
#include "targets/caches.hpp"
#include "targets/select.hpp"
#include "threads/count.hpp"

namespace {

constexpr char fingerprint_name[] = "fingerprint", digest_name[] = "digest";

// fingerprint(array) and digest(array) of the bytes of a C-contiguous array. Without pybind11,
// which would take longer than the function itself.
template <std::uint64_t (*hash)(const void*, std::size_t), const char* name>
PyObject* hashed(PyObject*, PyObject* given) {
  try {
    const auto array = py::reinterpret_borrow<py::array>(given);
    if (!py::isinstance<py::array>(array) || !(array.flags() & py::array::c_style))
      throw py::type_error(std::string(name) + ": expected a C-contiguous array");
    return PyLong_FromUnsignedLongLong(
        hash(array.data(), static_cast<std::size_t>(array.nbytes())));
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

// A function that is not bound by pybind11.
py::object function(PyMethodDef& definition) {
  return py::reinterpret_steal<py::object>(PyCFunction_NewEx(&definition, nullptr, nullptr));
}
PyMethodDef fingerprint_definition = {fingerprint_name, hashed<core::fingerprint, fingerprint_name>,
                                      METH_O, nullptr};
PyMethodDef digest_definition = {digest_name, hashed<core::digest, digest_name>, METH_O, nullptr};
PyMethodDef given_definition = {
    "given", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(options_given)),
    METH_FASTCALL, nullptr};

// kind and target: their names; an empty kind: no clipping.
core::StepClip step_clipping(const std::string& kind, double bound, const std::string& target) {
  core::StepClip clip;
  if (kind == "value") clip.kind = core::StepClip::value;
  if (kind == "norm") clip.kind = core::StepClip::norm;
  if (target == "c") clip.target = core::StepClip::c;
  if (target == "gates") clip.target = core::StepClip::gates;
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
      .def_property_readonly("arguments", [](const Tape& t) { return named(t.arguments); })
      .def_property_readonly("options", [](const Tape& t) { return copied_options(t.arguments); })
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
  // how: kind, bound and target of the step clip, cut, trace, threads, wanted
  using How = std::tuple<std::string, double, std::string, py::ssize_t, int, int, unsigned>;
  m.def("backward", [](const std::string& caller, const Tape& tape, const py::object& dy,
                       const py::tuple& dstate, const How& how) {
    const auto& [kind, bound, target, cut, trace, threads, wanted] = how;
    return tape.backward({step_clipping(kind, bound, target), cut, threads, caller}, dy, dstate,
                         trace, wanted);
  });
  m.attr("fingerprint") = function(fingerprint_definition);
  m.attr("digest") = function(digest_definition);
  m.attr("given") = function(given_definition);
  m.attr("MOST_THREADS") = core::most_threads;
  m.def("threads", &core::threads);
  m.def("expect_siblings", &core::expect_siblings);
  m.def("has_bf16", &core::has_bf16);
  m.def("set_threads", &core::set_threads);
  m.def("linear", &dense_linear);
  m.def("softmax", &dense_softmax);
  m.def("layer_norm", &dense_layer_norm);
  bind_stream(m);
  bind_prepared(m);
  m.def("compiled_isas", &core::compiled_isas);
  m.def("isas", &core::available_isas);
  m.def("isa", &core::active_isa);
  m.def("use_isa", &core::set_isa);
  m.def("caches", [] { return core::to_string(core::caches()); });
  m.def("use_caches", [](const std::string& list) { core::set_caches(list, "caches"); });
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
