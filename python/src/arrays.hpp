// SPDX-License-Identifier: MIT
// Between NumPy arrays and the core. Nothing here copies or converts: bptt/functional.py has done
// that.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <vector>

#include "bptt/recurrent.hpp"
#include "memory.hpp"

namespace py = pybind11;

template <class T>
bptt::Tensor<const T> view(const std::string& caller, const char* name, const py::object& object) {
  bptt::Tensor<const T> tensor;
  if (object.is_none()) return tensor;
  if (!py::isinstance<py::array_t<T, py::array::c_style>>(object) ||
      !(py::reinterpret_borrow<py::array>(object).flags() &
        py::detail::npy_api::NPY_ARRAY_ALIGNED_))
    throw py::type_error(caller + ": " + name + " is no aligned C-contiguous array of " +
                         std::string(py::str(py::dtype::of<T>())));
  const auto array = py::reinterpret_borrow<py::array>(object);
  tensor.data = static_cast<const T*>(array.data());
  tensor.ndim = static_cast<int>(array.ndim());
  for (int i = 0; i < tensor.ndim && i < 3; ++i) tensor.shape[i] = array.shape(i);
  if (tensor.ndim > 3)
    throw py::value_error(caller + ": " + name + " has " + std::to_string(tensor.ndim) +
                          " dimensions, expected at most 3");
  return tensor;
}

// A new array, uninitialised; a large one in memory that goes back to the pool with it.
template <class T>
py::array_t<T> make(std::vector<py::ssize_t> shape) {
  std::size_t bytes = sizeof(T);
  for (py::ssize_t size : shape) bytes *= static_cast<std::size_t>(size);  // checked by the plan
  if (bytes < (std::size_t(1) << 16)) return py::array_t<T>(std::move(shape));
  auto buffer = std::make_unique<Buffer>(bytes);
  const T* data = static_cast<const T*>(buffer->get());
  py::capsule owner(buffer.get(), [](void* p) { delete static_cast<Buffer*>(p); });
  buffer.release();
  return py::array_t<T>(std::move(shape), data, owner);
}
