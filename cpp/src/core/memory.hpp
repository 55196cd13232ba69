// SPDX-License-Identifier: MIT
// Memory for packed weights.
#pragma once
#include <cstddef>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace bptt::core {

// 64-byte aligned, uninitialised. Several megabytes are in huge pages where the system has them:
// every step reads all weights, which are more than the processor knows addresses of small pages.
class Memory {
 public:
  explicit Memory(std::size_t bytes)
      : memory_(::operator new(padded(bytes), alignment(bytes)), Free{alignment(bytes)}) {
#if defined(__linux__)
    if (bytes >= huge) madvise(memory_.get(), padded(bytes), MADV_HUGEPAGE);
#endif
  }
  void* get() const { return memory_.get(); }

 private:
  static constexpr std::size_t huge = std::size_t(1) << 21;
  struct Free {
    std::align_val_t alignment;
    void operator()(void* p) const { ::operator delete(p, alignment); }
  };
  static std::align_val_t alignment(std::size_t bytes) {
    return std::align_val_t(bytes >= huge ? huge : 64);
  }
  static std::size_t padded(std::size_t bytes) {
    return bytes >= huge ? (bytes + huge - 1) / huge * huge : bytes;
  }
  std::unique_ptr<void, Free> memory_;
};

}  // namespace bptt::core
