// SPDX-License-Identifier: MIT
// The layers without a loop over time, for one step of a stream.
#pragma once
#include <algorithm>

#include "arrays.hpp"
#include "dense/dense.hpp"

// f(zero of the type) if x (B, ...) and all others are arrays of one type, or None.
template <class F>
py::object for_dense_type(const char* caller, std::initializer_list<py::object> arrays,
                          const F& f) {
  const auto all = [&](auto zero) {
    for (const py::object& array : arrays)
      if (!array.is_none() && !usable<decltype(zero)>(array)) return false;
    return true;
  };
  if (all(0.0f)) return f(0.0f);
  if (all(0.0)) return f(0.0);
  throw py::type_error(std::string(caller) + ": expected C-contiguous arrays of one type");
}

inline void check_dense(const char* caller, bool fits) {
  if (!fits) throw py::value_error(std::string(caller) + ": the shapes do not fit each other");
}

// x (B, I), weight (O, I), bias (O,) or None
inline py::object dense_linear(const py::object& x, const py::object& weight,
                               const py::object& bias, const std::string& activation) {
  core::DenseActivation f;
  if (!core::find_dense_activation(activation.c_str(), f))
    throw py::value_error("linear: activation is '" + activation + "', expected " +
                          core::dense_activation_list);
  return for_dense_type("linear", {x, weight, bias}, [&](auto zero) -> py::object {
    using T = decltype(zero);
    const auto in = view<T>(x), w = view<T>(weight), b = view<T>(bias);
    check_dense("linear", in.ndim == 2 && w.ndim == 2 && in.shape[1] == w.shape[1] &&
                              (!b.data || (b.ndim == 1 && b.shape[0] == w.shape[0])));
    auto y = make<T, 2>({in.shape[0], w.shape[0]});
    core::linear(core::LinearCall<T>{in.shape[0], in.shape[1], w.shape[0], f, in.data, w.data,
                                     b.data, y.mutable_data()});
    return std::move(y);
  });
}

// x (B, n)
inline py::object dense_softmax(const py::object& x) {
  return for_dense_type("softmax", {x}, [&](auto zero) -> py::object {
    using T = decltype(zero);
    const auto in = view<T>(x);
    check_dense("softmax", in.ndim == 2 && in.shape[1] > 0);
    auto y = make<T, 2>({in.shape[0], in.shape[1]});
    std::copy_n(in.data, in.shape[0] * in.shape[1], y.mutable_data());
    core::softmax(in.shape[0], in.shape[1], y.mutable_data());
    return std::move(y);
  });
}

// x (B, size), weight and bias (size,)
inline py::object dense_layer_norm(const py::object& x, const py::object& weight,
                                   const py::object& bias, double eps) {
  return for_dense_type("layer_norm", {x, weight, bias}, [&](auto zero) -> py::object {
    using T = decltype(zero);
    const auto in = view<T>(x), w = view<T>(weight), b = view<T>(bias);
    check_dense("layer_norm", in.ndim == 2 && w.ndim == 1 && b.ndim == 1 &&
                                  in.shape[1] == w.shape[0] && in.shape[1] == b.shape[0]);
    auto y = make<T, 2>({in.shape[0], in.shape[1]});
    core::layer_norm(core::LayerNormCall<T>{in.shape[0], in.shape[1], eps, in.data, w.data, b.data,
                                            y.mutable_data()});
    return std::move(y);
  });
}
