// SPDX-License-Identifier: MIT
// The kernels that the C interface uses: of the plain cells.
#include "targets/select_embedded.hpp"

#include <atomic>
#include <cstring>

#include "capi/error.hpp"
#include "targets/cpu_caches.hpp"

#define BPTT_bf16(isa, runs_here)
#define BPTT_int8(isa, runs_here)
#define BPTT_others(isa, runs_here)
#define BPTT_duals(isa, runs_here)
#define BPTT_KERNELS(isa, part, runs_here) BPTT_##part(isa, runs_here)

namespace bptt::core {

#define BPTT_plain(isa, runs_here) \
  namespace isa {                  \
  extern const KernelTable plain;  \
  }
#include "targets/targets.inc"
#undef BPTT_plain

namespace {

struct Isa {
  const KernelTable* table;
  bool (*runs_here)();
};

// Best first.
constexpr Isa isas[] = {
#define BPTT_plain(isa, runs_here) {&isa::plain, runs_here},
#include "targets/targets.inc"
};

// A null name stands for the best one.
const KernelTable* find(const char* name) {
  for (const Isa& isa : isas)
    if ((!name || std::strcmp(name, isa.table->isa) == 0) && isa.runs_here()) return isa.table;
  return nullptr;
}

std::atomic<const KernelTable*> active{nullptr};
std::atomic<Index> first_cache{0}, second_cache{0}, third_cache{0};  // zeros: not read yet

}  // namespace

const KernelTable* embedded_kernels() {
  const KernelTable* table = active.load(std::memory_order_acquire);
  if (!table) active.store(table = find(nullptr), std::memory_order_release);
  return table;
}

// Read once, as a virtual machine takes microseconds for each CPUID.
Caches embedded_caches() {
  if (!third_cache.load(std::memory_order_acquire)) {
    const Caches found = cpu_caches();
    first_cache.store(found.first, std::memory_order_relaxed);
    second_cache.store(found.second, std::memory_order_relaxed);
    third_cache.store(found.third, std::memory_order_release);
  }
  return {first_cache.load(std::memory_order_relaxed), second_cache.load(std::memory_order_relaxed),
          third_cache.load(std::memory_order_relaxed)};
}

}  // namespace bptt::core

const char* bptt_isa(void) {
  const bptt::core::KernelTable* table = bptt::core::embedded_kernels();
  return table ? table->isa : nullptr;
}

bptt_status bptt_set_isa(const char* name) {
  using namespace bptt::core;
  const KernelTable* table = find(name && *name ? name : nullptr);
  if (!table)
    return refuse(BPTT_UNSUPPORTED, "bptt_set_isa", "name is '", name ? name : "",
                  "', expected an instruction set that runs here");
  active.store(table, std::memory_order_release);
  return BPTT_OK;
}
