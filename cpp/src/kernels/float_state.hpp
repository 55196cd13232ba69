// SPDX-License-Identifier: MIT
// The floating-point state of a thread: rounding, what becomes of subnormal numbers, exceptions.
// Internal to each file, like all that kernels use.
#pragma once
#include <cstdint>

namespace bptt::core {
namespace {

// What the processor keeps of it. On x86 one register holds the modes and the flags of exceptions,
// on AArch64 two do. Elsewhere nothing is changed.
struct FloatRegisters {
#if defined(__x86_64__)
  std::uint32_t all;
  static constexpr std::uint32_t nearest = 0x1f80, flush_results = 1u << 15,
                                 flush_operands = 1u << 6;
  static constexpr FloatRegisters standard() { return {nearest}; }
  static constexpr FloatRegisters flushing() { return {nearest | flush_results | flush_operands}; }
#elif defined(__aarch64__)
  std::uint64_t modes, flags;
  static constexpr FloatRegisters standard() { return {0, 0}; }
  static constexpr FloatRegisters flushing() { return {1u << 24, 0}; }
#else
  static constexpr FloatRegisters standard() { return {}; }
  static constexpr FloatRegisters flushing() { return {}; }
#endif
};

// Gives this thread a state of our own, and its host's back in the end: rounding to nearest, no
// traps. The host sees none of the exceptions that were raised between. The clobbers keep loads and
// stores, and so the arithmetic between them, on their side.
class FloatState {
 public:
  __attribute__((always_inline)) explicit FloatState(FloatRegisters own)
      : own_(own), host_(current()) {
    become(own_);
  }
  __attribute__((always_inline)) ~FloatState() { become(host_); }
  FloatState(const FloatState&) = delete;
  FloatState& operator=(const FloatState&) = delete;

  // Calls f() in the host's state, which f may change.
  template <class F>
  __attribute__((always_inline)) bool in_host(const F& f) {
    become(host_);
    const bool result = f();
    host_ = current();
    become(own_);
    return result;
  }

 private:
  __attribute__((always_inline)) static FloatRegisters current() {
    FloatRegisters r{};
#if defined(__x86_64__)
    asm volatile("stmxcsr %0" : "=m"(r.all) : : "memory");
#elif defined(__aarch64__)
    asm volatile("mrs %0, fpcr\n\tmrs %1, fpsr" : "=r"(r.modes), "=r"(r.flags) : : "memory");
#endif
    return r;
  }
  __attribute__((always_inline)) static void become(const FloatRegisters& r) {
#if defined(__x86_64__)
    asm volatile("ldmxcsr %0" : : "m"(r.all) : "memory");
#elif defined(__aarch64__)
    asm volatile("msr fpcr, %0\n\tmsr fpsr, %1" : : "r"(r.modes), "r"(r.flags) : "memory");
#else
    (void)r;
#endif
  }

  const FloatRegisters own_;
  FloatRegisters host_;
};

}  // namespace
}  // namespace bptt::core
