// SPDX-License-Identifier: MIT
// Streams: layers that keep their packed weights and their state.
#pragma once
#include "bptt/stream.hpp"
#include "calls.hpp"

// Without the type of the numbers, which `step` finds out.
struct AnyStream {
  virtual ~AnyStream() = default;
  // Both return None where x is not as the core needs it.
  virtual py::object step(py::handle x) = 0;
  virtual py::object process(py::handle x) = 0;
  virtual py::tuple get_state() = 0;
  virtual void set_state(const py::tuple& state) = 0;
};

template <class T>
struct StreamOf : AnyStream {
  bptt::Stream<T> stream;
  py::ssize_t B, I, P;

  StreamOf(const bptt::Spec& spec, const bptt::Inputs<T>& inputs)
      : stream(spec, inputs), B(stream.batch()), I(stream.input_size()), P(stream.width(0)) {}

  static bool has_shape(const bptt::Tensor<const T>& x, int ndim, py::ssize_t batch,
                        py::ssize_t width) {
    return x.ndim == ndim && x.shape[ndim - 2] == batch && x.shape[ndim - 1] == width;
  }

  py::object step(py::handle x) override {
    if (!usable<T>(x)) return py::none();
    const bptt::Tensor<const T> in = view<T>(x);
    if (!has_shape(in, 2, B, I)) return py::none();
    auto y = make<T, 2>({B, P});
    stream.process(in.data, 1, y.mutable_data());  // too short for the GIL to matter
    return std::move(y);
  }

  py::object process(py::handle x) override {
    if (!usable<T>(x)) return py::none();
    const bptt::Tensor<const T> in = view<T>(x);
    if (!has_shape(in, 3, B, I)) return py::none();
    auto y = make<T, 3>({in.shape[0], B, P});
    T* out = y.mutable_data();
    run_interruptibly(
        [&](bptt::StopRequest stop) { return stream.process(in.data, in.shape[0], out, stop); });
    return std::move(y);
  }

  py::tuple get_state() override {
    py::tuple state(static_cast<std::size_t>(stream.states()));
    for (int q = 0; q < stream.states(); ++q) {
      auto s = make<T, 2>({B, stream.width(q)});
      std::copy_n(stream.state(q), s.size(), s.mutable_data());
      state[static_cast<std::size_t>(q)] = std::move(s);
    }
    return state;
  }

  void set_state(const py::tuple& state) override {
    for (int q = 0; q < stream.states(); ++q) {
      const py::object array = state[static_cast<std::size_t>(q)];
      if (!usable<T>(array) || !has_shape(view<T>(array), 2, B, stream.width(q)))
        throw py::type_error("stream: state is not as the core needs it");
      std::copy_n(view<T>(array).data, B * stream.width(q), stream.state(q));
    }
  }
};

inline py::object make_stream(const std::string& caller, const std::string& cell,
                              const std::string& activation, bool bf16, const py::object& x,
                              const py::tuple& weights, const py::object& options) {
  bptt::Spec spec;
  spec.caller = caller, spec.cell = cell, spec.activation = activation;
  spec.train = false, spec.bf16 = bf16;
  const py::object none = py::none(), w_ih = weights[0], w_hh = weights[1],
                   b_ih = weights.size() > 2 ? py::object(weights[2]) : none,
                   b_hh = weights.size() > 3 ? py::object(weights[3]) : none;
  Arrays arrays{x, w_ih, w_hh, b_ih, b_hh, none};
  read_options(options, spec, arrays);
  std::unique_ptr<AnyStream> stream;
  if (arrays.all_usable<float>())
    stream = std::make_unique<StreamOf<float>>(spec, arrays.inputs<float>());
  else if (arrays.all_usable<double>())
    stream = std::make_unique<StreamOf<double>>(spec, arrays.inputs<double>());
  if (stream) return owned(std::move(stream));
  throw py::type_error(caller + ": weights are no C-contiguous arrays of one type");
}

inline void bind_stream(py::module_& m) {
  py::class_<AnyStream>(m, "Stream")
      .def("step", &AnyStream::step)
      .def("process", &AnyStream::process)
      .def("get_state", &AnyStream::get_state)
      .def("set_state", &AnyStream::set_state);
  m.def("stream", &make_stream);
}
