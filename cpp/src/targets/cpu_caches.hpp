// SPDX-License-Identifier: MIT
// The data caches of the core that runs this, by CPUID: it needs no library and no files.
#pragma once
#include "kernels/interface.hpp"
#include "targets/cpu.hpp"

namespace bptt::core {

#if defined(__x86_64__)
// The sizes that leaf 4 (Intel) or 0x8000001D (AMD) lists; those of Caches where it lists none.
inline Caches cpu_caches() {
  constexpr unsigned extended = 0x80000000u, amd = 0x8000001Du;
  const bool has_amd_leaf = Features(extended).a >= amd && all_of(Features(0x80000001).c, {22});
  Caches found;
  Index* const sizes[] = {&found.first, &found.second, &found.third};
  for (unsigned part = 0; part < 16; ++part) {
    const Features f(has_amd_leaf ? amd : 4, part);
    const unsigned type = f.a & 31, level = f.a >> 5 & 7;  // type 0: the end, 2: instructions
    if (!type) break;
    if (type == 2 || level < 1 || level > 3) continue;
    const Index ways = (f.b >> 22) + 1, partitions = (f.b >> 12 & 1023) + 1,
                line = (f.b & 4095) + 1, sets = Index(f.c) + 1;
    *sizes[level - 1] = ways * partitions * line * sets;
  }
  return found;
}
#else
inline Caches cpu_caches() { return {}; }
#endif

}  // namespace bptt::core
