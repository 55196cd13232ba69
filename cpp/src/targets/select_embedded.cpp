// SPDX-License-Identifier: MIT
// Which kernels the C interface uses.
#include "targets/select_embedded.hpp"

#include <atomic>
#include <cstring>

#include "targets/cpu.hpp"
#include "capi/error.hpp"

namespace bptt::core {

#if defined(__x86_64__)
namespace avx512 {
extern const KernelTable table;
}
namespace avx2 {
extern const KernelTable table;
}
namespace sse42 {
extern const KernelTable table;
}
#elif defined(__aarch64__)
namespace neon {
extern const KernelTable table;
}
#else
namespace generic {
extern const KernelTable table;
}
#endif

namespace {

struct Isa {
  const KernelTable* table;
  bool (*runs_here)();
};

// Best first.
constexpr Isa isas[] = {
#if defined(__x86_64__)
    {&avx512::table, has_avx512}, {&avx2::table, has_avx2}, {&sse42::table, has_sse42}
#elif defined(__aarch64__)
    {&neon::table, has_all}
#else
    {&generic::table, has_all}
#endif
};

// Null name: the best.
const KernelTable* find(const char* name) {
  for (const Isa& isa : isas)
    if ((!name || std::strcmp(name, isa.table->isa) == 0) && isa.runs_here()) return isa.table;
  return nullptr;
}

std::atomic<const KernelTable*> active{nullptr};

}  // namespace

const KernelTable* embedded_kernels() {
  const KernelTable* table = active.load(std::memory_order_acquire);
  if (!table) active.store(table = find(nullptr), std::memory_order_release);
  return table;
}

}  // namespace bptt::core

const char* bptt_isa(void) {
  const bptt::core::KernelTable* table = bptt::core::embedded_kernels();
  return table ? table->isa : nullptr;
}

bptt_status bptt_set_isa(const char* name) {
  const bptt::core::KernelTable* table = bptt::core::find(name && *name ? name : nullptr);
  if (!table)
    return bptt::core::refuse(BPTT_UNSUPPORTED, "bptt_set_isa", "name is '", name ? name : "",
                              "', expected an instruction set that runs here");
  bptt::core::active.store(table, std::memory_order_release);
  return BPTT_OK;
}
