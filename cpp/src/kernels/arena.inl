// SPDX-License-Identifier: MIT
// Memory of a caller's, handed out piece by piece.
#pragma once
#include "kernels/interface.hpp"

#if defined(BPTT_ISA)  // each set of kernels has its own
namespace bptt::core::BPTT_ISA {
namespace {
#else
namespace bptt::core {
#endif

// Hands out 64-byte aligned arrays from one buffer; without a buffer it only adds up their bytes.
struct Arena {
  void* base;
  std::size_t used = 0;
  template <class T>
  T* take(Index n) {
    T* p = base ? reinterpret_cast<T*>(static_cast<char*>(base) + used) : nullptr;
    used += (static_cast<std::size_t>(n) * sizeof(T) + 63) / 64 * 64;
    return p;
  }
};

#if defined(BPTT_ISA)
}  // namespace
}  // namespace bptt::core::BPTT_ISA
#else
}  // namespace bptt::core
#endif
