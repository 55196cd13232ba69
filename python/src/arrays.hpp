// SPDX-License-Identifier: MIT
// Between NumPy arrays and the core. Nothing here copies or converts: Python does that before.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <array>
#include <complex>
#include <memory>
#include <string>

#include "core/plan.hpp"
#include "memory.hpp"

namespace core = bptt::core;
namespace py = pybind11;

// Dual numbers are complex ones to NumPy, which has none: value + i tangent.
template <>
struct py::detail::npy_format_descriptor<core::Dual>
    : py::detail::npy_format_descriptor<std::complex<double>> {};

// Can the core use the array without a copy? Not if it is a subclass, which may mean more than its
// bytes.
template <class T>
bool usable(py::handle object) {
  const auto& api = py::detail::npy_api::get();
  constexpr int wanted =
      py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  if (Py_TYPE(object.ptr()) != api.PyArray_Type_) return false;
  const auto* array = py::detail::array_proxy(object.ptr());
  return (array->flags & wanted) == wanted && array->nd <= 3 &&
         api.PyArray_EquivTypes_(array->descr, py::dtype::of<T>().ptr());
}

// A view of such an array, or of None.
template <class T>
core::Tensor<const T> view(py::handle object) {
  core::Tensor<const T> tensor;
  if (object.is_none()) return tensor;
  const auto* array = py::detail::array_proxy(object.ptr());
  tensor.data = reinterpret_cast<const T*>(array->data);
  tensor.ndim = array->nd;
  for (int i = 0; i < tensor.ndim; ++i) tensor.shape[i] = array->dimensions[i];
  return tensor;
}

// A new array, uninitialised; a large one owns memory of the pool and returns it at its end.
template <class T, std::size_t N>
py::array_t<T> make(const std::array<py::ssize_t, N>& shape) {
  std::size_t bytes = sizeof(T);
  for (py::ssize_t size : shape) bytes *= static_cast<std::size_t>(size);  // checked by the plan
  if (bytes < (std::size_t(1) << 16)) {  // like py::array_t(shape), without its vectors
    const auto& api = py::detail::npy_api::get();
    PyObject* array =
        api.PyArray_NewFromDescr_(api.PyArray_Type_, py::dtype::of<T>().release().ptr(), N,
                                  shape.data(), nullptr, nullptr, 0, nullptr);
    if (!array) throw py::error_already_set();
    return py::reinterpret_steal<py::array_t<T>>(array);
  }
  auto buffer = std::make_unique<Buffer>(bytes);
  const T* data = static_cast<const T*>(buffer->get());
  py::capsule owner(buffer.get(), [](void* p) { delete static_cast<Buffer*>(p); });
  buffer.release();
  return py::array_t<T>(shape, data, owner);
}

// The array for a result: `out`, or a new one where it is None. Null if the core cannot write to
// `out`, for its shape, its type or its flags.
template <class T, std::size_t N>
py::object given_or_new(py::handle out, const std::array<py::ssize_t, N>& shape) {
  if (out.is_none()) return make<T, N>(shape);
  if (!usable<T>(out)) return {};
  const auto* array = py::detail::array_proxy(out.ptr());
  const bool fits = (array->flags & py::detail::npy_api::NPY_ARRAY_WRITEABLE_) &&
                    array->nd == static_cast<int>(N) &&
                    std::equal(shape.begin(), shape.end(), array->dimensions);
  return fits ? py::reinterpret_borrow<py::object>(out) : py::object();
}

template <class T>
T* data_of(const py::object& array) {
  return reinterpret_cast<T*>(py::detail::array_proxy(array.ptr())->data);
}

inline void make_read_only(const py::array& array) {
  py::detail::array_proxy(array.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
}
