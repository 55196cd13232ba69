// SPDX-License-Identifier: MIT
// What this CPU and operating system can run. The built-in tests look at what the operating system
// saves as well as at the CPU.
#pragma once
#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace bptt {

#if defined(__x86_64__)
inline bool has_sse42() {
  return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
}

inline bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}

inline bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}

inline bool has_bf16_products() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return has_avx512() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 5));
}

// Tile registers are used only by those whom the operating system lets.
inline bool has_amx() {
#if defined(__linux__)
  constexpr unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24;
  constexpr long request_permission = 0x1023, tile_data = 18;  // of arch_prctl
  unsigned a = 0, b = 0, c = 0, d = 0;
  return has_bf16_products() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & amx_bf16) &&
         (d & amx_tile) && syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}
#else
inline bool has_all() { return true; }
#endif

}  // namespace bptt
