// SPDX-License-Identifier: MIT
// Between NumPy arrays and the core. Nothing here copies or converts: bptt/functional.py has done
// that.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "bptt/recurrent.hpp"

namespace py = pybind11;

// Memory of one call or one tape, 64-byte aligned; large pieces ask for huge pages.
class Buffer {
 public:
  explicit Buffer(std::size_t bytes) {
    if (!bytes) return;
    constexpr std::size_t huge = std::size_t(1) << 21;
    const std::size_t alignment = bytes >= huge ? huge : 64;
    const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    if (rounded < bytes) throw std::bad_alloc();
    data_.reset(std::aligned_alloc(alignment, rounded));
    if (!data_) throw std::bad_alloc();
#if defined(__linux__)
    if (bytes >= huge) madvise(data_.get(), rounded, MADV_HUGEPAGE);
#endif
  }
  void* get() const { return data_.get(); }

 private:
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::unique_ptr<void, Free> data_;
};

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

// A new array, uninitialised.
template <class T>
py::array_t<T> make(std::vector<py::ssize_t> shape) {
  return py::array_t<T>(std::move(shape));
}
