// SPDX-License-Identifier: MIT
// The binding: array arguments in, arrays out, the GIL released in between. Documented in
// bptt/functional.py.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <chrono>
#include <exception>
#include <optional>
#include <thread>

#include "arrays.hpp"
#include "bptt/isa.hpp"

namespace {

using bptt::most_states;

// The thread that Python delivers signals to; set when the module is loaded.
unsigned long main_thread = 0;

// Releases the GIL, and takes it back. A thread that comes back while the interpreter is shutting
// down must never return into it: Python before 3.14 would end it by an exception that no
// destructor survives, so it sleeps instead.
class GilRelease {
 public:
  GilRelease() : state_(PyEval_SaveThread()) {}
  void take_back() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
  }
  // Lets Ctrl-C reach a long call: Python's signal handlers run only when the main thread asks.
  static bool signal_arrived(void* context) {
    auto* self = static_cast<GilRelease*>(context);
    const auto now = std::chrono::steady_clock::now();
    if (now - self->last_ < std::chrono::milliseconds(50)) return false;
    self->last_ = now;
    if (PyThread_get_thread_ident() != main_thread) return false;
    PyEval_RestoreThread(self->state_);
    const bool arrived = PyErr_CheckSignals() != 0;
    self->state_ = PyEval_SaveThread();
    return arrived;
  }

 private:
  PyThreadState* state_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// Runs f(stop request) without the GIL; f returns false when a signal stopped it.
template <class F>
void run_interruptibly(const F& f) {
  bool finished = false;
  std::exception_ptr error;
  GilRelease gil;
  try {
    finished = f(bptt::StopRequest{&GilRelease::signal_arrived, &gil});
  } catch (...) {
    error = std::current_exception();
  }
  gil.take_back();
  if (error) std::rethrow_exception(error);
  if (!finished) throw py::error_already_set();
}

// What backward needs of one forward call: the core's tape, and the arrays that it refers to.
struct Tape {
  virtual ~Tape() = default;
  virtual py::tuple backward(const std::string& caller, const py::object& dy,
                             const py::tuple& dstate, bptt::StepClipping clip) const = 0;
  std::string cell, dtype;
  py::ssize_t dims[4] = {0, 0, 0, 0};  // T, B, I, H
  std::size_t bytes = 0;
};

template <class T>
struct TapeOf : Tape {
  bptt::Plan<T> plan;
  Buffer buffer;
  py::array_t<T> x, y;
  bool has_b_ih, has_b_hh;

  TapeOf(const bptt::Spec& spec, bptt::Plan<T> p, const py::array_t<T>& x_array,
         const py::array_t<T>& y_array, bool with_b_ih, bool with_b_hh)
      : plan(std::move(p)),
        buffer(plan.tape_bytes()),
        x(x_array),
        y(y_array),
        has_b_ih(with_b_ih),
        has_b_hh(with_b_hh) {
    cell = spec.cell, dtype = py::str(py::dtype::of<T>()), bytes = plan.tape_bytes();
    dims[0] = plan.steps(), dims[1] = plan.batch(), dims[2] = plan.input_size(),
    dims[3] = plan.hidden_size();
  }

  py::tuple backward(const std::string& caller, const py::object& dy, const py::tuple& dstate,
                     bptt::StepClipping clip) const override {
    bptt::Cotangents<T> given;
    given.y = view<T>(caller, "dy", dy);
    for (std::size_t q = 0; q < dstate.size() && q < most_states; ++q)
      given.state[q] = view<T>(caller, "dstate", dstate[q]);
    const py::ssize_t B = dims[1], I = dims[2], H = dims[3], rows = plan.gates() * H;
    auto dx = make<T>({dims[0], B, I}), dw_ih = make<T>({rows, I}), dw_hh = make<T>({rows, H});
    std::optional<py::array_t<T>> db_ih, db_hh;
    if (has_b_ih) db_ih = make<T>({rows});
    if (has_b_hh) db_hh = make<T>({rows});
    py::tuple dstate0(static_cast<std::size_t>(plan.states()));
    bptt::Gradients<T> out{};
    for (std::size_t q = 0; q < dstate0.size(); ++q) {
      auto d = make<T>({B, H});
      out.state[q] = d.mutable_data();
      dstate0[q] = d;
    }
    out.x = dx.mutable_data(), out.w_ih = dw_ih.mutable_data(), out.w_hh = dw_hh.mutable_data();
    out.b_ih = db_ih ? db_ih->mutable_data() : nullptr,
    out.b_hh = db_hh ? db_hh->mutable_data() : nullptr;
    const Buffer scratch(plan.backward_scratch_bytes());
    const T *x_data = x.data(), *y_data = y.data();
    run_interruptibly([&](bptt::StopRequest stop) {
      return plan.backward(x_data, y_data, given, clip, out, buffer.get(), scratch.get(), caller,
                           stop);
    });
    return py::make_tuple(dx, dw_ih, dw_hh, db_ih, db_hh, dstate0);
  }
};

template <class T>
py::tuple forward_of(const bptt::Spec& spec, const py::object& x, const py::object& w_ih,
                     const py::object& w_hh, const py::object& b_ih, const py::object& b_hh,
                     const py::tuple& state, const py::object& lengths) {
  const std::string& caller = spec.caller;
  bptt::Inputs<T> in;
  in.x = view<T>(caller, "x", x);
  in.w_ih = view<T>(caller, "w_ih", w_ih), in.w_hh = view<T>(caller, "w_hh", w_hh);
  in.b_ih = view<T>(caller, "b_ih", b_ih), in.b_hh = view<T>(caller, "b_hh", b_hh);
  in.lengths = view<std::int64_t>(caller, "lengths", lengths);
  for (std::size_t q = 0; q < state.size() && q < most_states; ++q)
    in.state[q] = view<T>(caller, "state", state[q]);

  bptt::Plan<T> plan(spec, in);
  auto y = make<T>({plan.steps(), plan.batch(), plan.hidden_size()});
  py::tuple state_n(static_cast<std::size_t>(plan.states()));
  bptt::Outputs<T> out{};
  out.y = y.mutable_data();
  for (std::size_t q = 0; q < state_n.size(); ++q) {
    auto s = make<T>({plan.batch(), plan.hidden_size()});
    out.state[q] = s.mutable_data();
    state_n[q] = s;
  }
  const Buffer scratch(plan.forward_scratch_bytes());
  if (!spec.train) {
    run_interruptibly([&](bptt::StopRequest stop) {
      return plan.forward(in, out, nullptr, scratch.get(), stop);
    });
    return py::make_tuple(y, state_n, py::none());
  }
  auto tape =
      std::make_unique<TapeOf<T>>(spec, std::move(plan), py::reinterpret_borrow<py::array_t<T>>(x),
                                  y, bool(in.b_ih), bool(in.b_hh));
  run_interruptibly([&](bptt::StopRequest stop) {
    return tape->plan.forward(in, out, tape->buffer.get(), scratch.get(), stop);
  });
  y.attr("setflags")(py::arg("write") = false);  // the tape refers to it
  return py::make_tuple(y, state_n, std::unique_ptr<Tape>(std::move(tape)));
}

py::tuple forward(const std::string& caller, const std::string& cell, const std::string& activation,
                  const py::object& x, const py::object& w_ih, const py::object& w_hh,
                  const py::object& b_ih, const py::object& b_hh, const py::tuple& state,
                  const py::object& lengths, bool reverse, bool train) {
  bptt::Spec spec;
  spec.caller = caller, spec.cell = cell, spec.activation = activation;
  spec.reverse = reverse, spec.train = train;
  if (py::isinstance<py::array_t<float>>(x))
    return forward_of<float>(spec, x, w_ih, w_hh, b_ih, b_hh, state, lengths);
  return forward_of<double>(spec, x, w_ih, w_hh, b_ih, b_hh, state, lengths);
}

bptt::StepClipping step_clipping(const std::string& kind, double bound) {
  if (kind == "value") return {bptt::StepClipping::value, bound};
  if (kind == "norm") return {bptt::StepClipping::norm, bound};
  return {};
}

}  // namespace

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
  m.attr("__version__") = BPTT_VERSION;
  main_thread =
      py::cast<unsigned long>(py::module_::import("threading").attr("main_thread")().attr("ident"));
  py::class_<Tape>(m, "Tape")
      .def_readonly("cell", &Tape::cell)
      .def_readonly("dtype", &Tape::dtype)
      .def_readonly("nbytes", &Tape::bytes)
      .def_property_readonly(
          "dims",
          [](const Tape& t) { return py::make_tuple(t.dims[0], t.dims[1], t.dims[2], t.dims[3]); })
      .def("__repr__", [](const Tape& t) {
        std::string text = "Tape(" + t.cell;
        for (int i = 0; i < 4; ++i)
          text += std::string(", ") + "TBIH"[i] + "=" + std::to_string(t.dims[i]);
        return text + ", " + t.dtype + ", " + std::to_string((t.bytes + 512) / 1024) + " KiB)";
      });
  m.def("forward", &forward);
  m.def("backward", [](const std::string& caller, const Tape& tape, const py::object& dy,
                       const py::tuple& dstate, const std::string& clip, double bound) {
    return tape.backward(caller, dy, dstate, step_clipping(clip, bound));
  });
  m.def("compiled_isas", &bptt::compiled_isas);
  m.def("isas", &bptt::available_isas);
  m.def("isa", &bptt::active_isa);
  m.def("use_isa", &bptt::set_isa);
  m.def("fma_gflops", [](double seconds) {
    double rate = 0;
    run_interruptibly([&](bptt::StopRequest) {
      rate = bptt::fma_gflops(seconds);
      return true;
    });
    return rate;
  });
  m.def("cells", [] {
    py::dict cells;
    for (const bptt::CellInfo& cell : bptt::cells())
      cells[py::str(cell.name)] = py::make_tuple(cell.gates, cell.states);
    return cells;
  });
}
