// SPDX-License-Identifier: MIT
#pragma once
#include <cstddef>
#include <initializer_list>

namespace bptt::core {

// A view of a C-contiguous array that somebody else owns. Without data it stands for an argument
// left out.
template <class T>
struct Tensor {
  T* data = nullptr;
  int ndim = 0;
  std::ptrdiff_t shape[3] = {0, 0, 0};

  Tensor() = default;
  Tensor(T* array, std::initializer_list<std::ptrdiff_t> sizes) : data(array) {
    for (std::ptrdiff_t size : sizes)
      if (ndim < 3) shape[ndim++] = size;
  }
  explicit operator bool() const { return data != nullptr; }
};

}  // namespace bptt::core
