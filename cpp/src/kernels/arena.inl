// SPDX-License-Identifier: MIT
// Included inside a namespace of its own by every set of kernels.

// Hands out 64-byte aligned pieces of one buffer; without a buffer it only adds up the bytes.
struct Pieces {
  char* base;
  std::size_t used = 0;
  template <class T>
  T* take(Index n) {
    T* p = base ? reinterpret_cast<T*>(base + used) : nullptr;
    used += (static_cast<std::size_t>(n) * sizeof(T) + 63) / 64 * 64;
    return p;
  }
};
