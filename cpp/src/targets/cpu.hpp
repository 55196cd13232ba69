// SPDX-License-Identifier: MIT
// The instruction sets that this CPU and operating system can run: the latter must save the vector
// registers. By CPUID, as the compilers' own tests need a library on some systems.
#pragma once
#include <initializer_list>

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace bptt::core {

#if defined(__x86_64__)
struct Features {
  unsigned a = 0, b = 0, c = 0, d = 0;  // zeros if the CPU has no such leaf
  explicit Features(unsigned leaf, unsigned part = 0) {
    __get_cpuid_count(leaf, part, &a, &b, &c, &d);
  }
};
inline bool all_of(unsigned word, std::initializer_list<int> bits) {
  for (int bit : bits)
    if (!(word >> bit & 1)) return false;
  return true;
}

// Does the operating system save these registers? Bits of XCR0: 1, 2 for AVX, 5, 6, 7 for AVX-512.
inline bool saves(std::initializer_list<int> registers) {
  if (!all_of(Features(1).c, {27})) return false;
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return all_of(low, registers);
}

inline bool has_sse42() { return all_of(Features(1).c, {20, 23}); }  // sse4.2 popcnt

inline bool has_avx2() {  // fma movbe f16c; bmi avx2 bmi2; lzcnt
  return saves({1, 2}) && all_of(Features(1).c, {12, 22, 29}) && all_of(Features(7).b, {3, 5, 8}) &&
         all_of(Features(0x80000001).c, {5});
}

inline bool has_avx512() {  // f dq cd bw vl
  return has_avx2() && saves({5, 6, 7}) && all_of(Features(7).b, {16, 17, 28, 30, 31});
}

inline bool has_bf16_products() {  // vnni; bf16
  return has_avx512() && all_of(Features(7).c, {11}) && all_of(Features(7, 1).a, {5});
}

// A program must ask the operating system for permission to use tile registers.
inline bool has_amx() {
#if defined(__linux__)
  constexpr int amx_bf16 = 22, amx_tile = 24;
  constexpr long request_permission = 0x1023, tile_data = 18;  // of arch_prctl
  return has_bf16_products() && all_of(Features(7).d, {amx_bf16, amx_tile}) &&
         syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}
#else
inline bool has_all() { return true; }
#endif

}  // namespace bptt::core
