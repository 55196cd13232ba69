// SPDX-License-Identifier: MIT
// Streams: layers, one above the other, that keep their packed weights and their state.
#pragma once
#include <tuple>

#include "core/stream.hpp"
#include "gil.hpp"
#include "options.hpp"
#include "owned.hpp"

// A stream of any number type.
struct AnyStream {
  virtual ~AnyStream() = default;
  // out: None, or an array for the result apart from x. Both return None where an argument is not
  // as the core needs it. If they fail, the state stays as it was.
  virtual py::object step(py::handle x, py::handle out) = 0;
  virtual py::object process(py::handle x, py::handle out) = 0;
  virtual py::tuple get_state() = 0;  // [layers, B, width] each
  virtual void set_state(const py::tuple& state) = 0;
};

template <class T>
class StreamOf : public AnyStream {
 public:
  // residual: for each layer, is its input added to its output?
  StreamOf(std::vector<core::Stream<T>> layers, std::vector<bool> residual)
      : layers_(std::move(layers)),
        residual_(std::move(residual)),
        B_(layers_.front().dims().B),
        I_(layers_.front().dims().I) {
    for (const core::Stream<T>& layer : layers_) widest_ = std::max(widest_, layer.width(0));
    between_.resize(between_size(1));
  }

  py::object step(py::handle x, py::handle out) override {
    const core::Tensor<const T> in = given(x, 2);
    if (!in.ndim) return py::none();
    py::object y = given_or_new<T, 2>(out, {B_, layers_.back().width(0)});
    if (!y) return py::none();
    run(in.data, 1, data_of<T>(y), between_.data(), {});  // too short for the GIL to matter
    return y;
  }

  py::object process(py::handle x, py::handle out) override {
    const core::Tensor<const T> in = given(x, 3);
    if (!in.ndim) return py::none();
    const py::ssize_t steps = in.shape[0];
    py::object result = given_or_new<T, 3>(out, {steps, B_, layers_.back().width(0)});
    if (!result) return py::none();
    T* y = data_of<T>(result);
    const Buffer between(between_size(steps) * sizeof(T));
    std::vector<T> before;
    each_state(
        [&](const T* state, py::ssize_t n) { before.insert(before.end(), state, state + n); });
    run_interruptibly([&](core::StopRequest stop) {
      if (run(in.data, steps, y, static_cast<T*>(between.get()), stop)) return true;
      const T* next = before.data();
      each_state([&](T* state, py::ssize_t n) { std::copy_n(next, n, state), next += n; });
      return false;
    });
    return result;
  }

  py::tuple get_state() override {
    const int states = layers_.front().states();
    py::tuple all(static_cast<std::size_t>(states));
    for (int q = 0; q < states; ++q) {
      auto s = make<T, 3>({size(), B_, layers_.front().width(q)});
      T* to = s.mutable_data();
      for (core::Stream<T>& layer : layers_)
        to = std::copy_n(layer.state(q), s.size() / size(), to);
      all[static_cast<std::size_t>(q)] = std::move(s);
    }
    return all;
  }

  void set_state(const py::tuple& state) override {
    const int states = layers_.front().states();
    const auto shaped = [&](int q) {
      const py::object array = state[static_cast<std::size_t>(q)];
      const auto s = usable<T>(array) ? view<T>(array) : core::Tensor<const T>();
      return s.ndim == 3 && s.shape[0] == size() && s.shape[1] == B_ &&
                     s.shape[2] == layers_.front().width(q)
                 ? s.data
                 : throw py::type_error("stream: state is not as the core needs it");
    };
    std::array<const T*, max_states> from;
    for (int q = 0; q < states; ++q) from[static_cast<std::size_t>(q)] = shaped(q);
    for (core::Stream<T>& layer : layers_)
      for (int q = 0; q < states; ++q) {
        const T*& next = from[static_cast<std::size_t>(q)];
        const py::ssize_t n = B_ * layer.width(q);
        std::copy_n(next, n, layer.state(q)), next += n;
      }
  }

 private:
  py::ssize_t size() const { return static_cast<py::ssize_t>(layers_.size()); }

  // Numbers in the outputs of two lower layers.
  std::size_t between_size(py::ssize_t steps) const {
    return layers_.size() < 2 ? 0 : 2 * static_cast<std::size_t>(steps * B_ * widest_);
  }

  // A view without dimensions if x is not as the core needs it.
  core::Tensor<const T> given(py::handle x, int ndim) const {
    const auto in = usable<T>(x) ? view<T>(x) : core::Tensor<const T>();
    const bool fits = in.ndim == ndim && in.shape[ndim - 2] == B_ && in.shape[ndim - 1] == I_;
    return fits ? in : core::Tensor<const T>();
  }

  template <class F>
  void each_state(const F& f) {
    for (core::Stream<T>& layer : layers_)
      for (int q = 0; q < layer.states(); ++q) f(layer.state(q), B_ * layer.width(q));
  }

  // Allocates nothing. False: stopped after some of the steps.
  bool run(const T* x, py::ssize_t steps, T* y, T* between, core::StopRequest stop) {
    for (std::size_t k = 0; k < layers_.size(); ++k) {
      const py::ssize_t n = steps * B_ * layers_[k].width(0);
      T* out = k + 1 == layers_.size() ? y : between + (k % 2 ? steps * B_ * widest_ : 0);
      if (!layers_[k].process(x, steps, out, stop)) return false;
      for (py::ssize_t i = 0; residual_[k] && i < n; ++i) out[i] += x[i];
      x = out;
    }
    return true;
  }

  std::vector<core::Stream<T>> layers_;
  std::vector<bool> residual_;
  py::ssize_t B_, I_, widest_ = 0;
  std::vector<T> between_;  // for one step
};

// (x, (products, w_ih, w_hh, b_ih, b_hh, options)) of one layer, as forward() takes them; products:
// "", "bf16" or "int8"; x: any array (T, B, I).
using Object = py::object;
using LayerArguments =
    std::pair<Object, std::tuple<std::string, Object, Object, Object, Object, Object>>;

struct GivenLayer {
  core::Spec spec;
  Arrays arrays;
  GivenLayer(const std::string& caller, const std::string& cell, const LayerArguments& given) {
    const auto& [products, w_ih, w_hh, b_ih, b_hh, options] = given.second;
    arrays.x = given.first, arrays.lengths = py::none();
    arrays.w_ih = w_ih, arrays.w_hh = w_hh, arrays.b_ih = b_ih, arrays.b_hh = b_hh;
    spec.caller = caller, spec.cell = cell, spec.bf16 = products == "bf16",
    spec.int8 = products == "int8";
    spec.train = false;
    read_options(options, spec, arrays);
  }
};

// A stream of type T, or null if the arrays are of another type.
template <class T>
std::unique_ptr<AnyStream> stream_of(const std::vector<GivenLayer>& given,
                                     const std::vector<bool>& residual) {
  std::vector<core::Stream<T>> layers;
  for (const GivenLayer& layer : given) {
    if (!layer.arrays.template all_usable<T>()) return nullptr;
    layers.emplace_back(layer.spec, layer.arrays.template inputs<T>());
  }
  return std::make_unique<StreamOf<T>>(std::move(layers), residual);
}

inline py::object make_stream(const std::string& caller, const std::string& cell,
                              const std::vector<LayerArguments>& layers,
                              const std::vector<bool>& residual) {
  std::vector<GivenLayer> given;
  for (const LayerArguments& layer : layers) given.emplace_back(caller, cell, layer);
  if (auto stream = stream_of<float>(given, residual)) return owned(std::move(stream));
  if (auto stream = stream_of<double>(given, residual)) return owned(std::move(stream));
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
