// SPDX-License-Identifier: MIT
// What the teams of threads share: a barrier, and the team of one.
#pragma once
#include <atomic>

#include "kernels/interface.hpp"

namespace bptt::core {

inline void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

class Barrier {
 public:
  // Returns when all `size` ranks have called it, or when spin() is false, which is called until
  // then.
  template <class Spin>
  void wait(int size, const Spin& spin) {
    const int now = generation_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size) {
      arrived_.store(0, std::memory_order_relaxed);
      generation_.store(now + 1, std::memory_order_release);
    } else {
      while (generation_.load(std::memory_order_acquire) == now && spin()) continue;
    }
  }

 private:
  std::atomic<int> arrived_{0}, generation_{0};
};

// The calling thread alone, never stopped.
inline constexpr Team alone{
    0, 1, nullptr, nullptr, [](void*) { return true; }, [](void*, int) { return false; }};

}  // namespace bptt::core
