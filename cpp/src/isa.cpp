// SPDX-License-Identifier: MIT
#include "isa.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <stdexcept>

#include "bptt/isa.hpp"

namespace bptt {

#if defined(__x86_64__)
namespace amx {
extern const KernelTable table;
}
namespace avx512bf16 {
extern const KernelTable table;
}
namespace avx512 {
extern const KernelTable table;
}
namespace avx2 {
extern const KernelTable table;
extern const CellKernels<Dual>* const duals;
}  // namespace avx2
namespace sse42 {
extern const KernelTable table;
extern const CellKernels<Dual>* const duals;
}  // namespace sse42
#elif defined(__aarch64__)
namespace neon {
extern const KernelTable table;
extern const CellKernels<Dual>* const duals;
}  // namespace neon
#else
namespace generic {
extern const KernelTable table;
extern const CellKernels<Dual>* const duals;
}  // namespace generic
#endif

namespace {

struct Isa {
  KernelTable table;
  bool (*runs_here)();
};

// Kernels of dual numbers are compiled apart.
KernelTable with_duals(KernelTable table, const CellKernels<Dual>* duals) {
  table.dual = duals;
  return table;
}

#if defined(__x86_64__)
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}

bool has_bf16_products() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return has_avx512() && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & (1u << 5));
}

// Tile registers are used only by those whom the operating system lets.
bool has_amx() {
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

const KernelTable avx2_table = with_duals(avx2::table, avx2::duals);

// What is rare is not compiled for AVX-512.
KernelTable with_rest(KernelTable table) {
  table.rest = &avx2_table;
  return table;
}

// AVX-512 with products in bfloat16.
KernelTable with_bf16(const KernelTable& products) {
  KernelTable table = with_rest(avx512::table);
  table.isa = products.isa, table.bf16 = products.bf16;
  table.bf16_cells = products.bf16_cells;
  return table;
}
#endif

// Best first. The built-in tests look at what the operating system saves as well as at the CPU.
const Isa isas[] = {
#if defined(__x86_64__)
    {with_bf16(amx::table), has_amx},
    {with_bf16(avx512bf16::table), has_bf16_products},
    {with_rest(avx512::table), has_avx512},
    {avx2_table,
     [] {
       return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
              __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
     }},
    {with_duals(sse42::table, sse42::duals),
     [] { return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt"); }},
#elif defined(__aarch64__)
    {with_duals(neon::table, neon::duals), [] { return true; }},
#else
    {with_duals(generic::table, generic::duals), [] { return true; }},
#endif
};

std::atomic<const KernelTable*> active{nullptr};

const KernelTable& find(const std::string& name, const char* source) {
  std::string choices;
  for (const Isa& isa : isas) {
    if (!isa.runs_here()) continue;
    if (name == isa.table.isa) return isa.table;
    choices += (choices.empty() ? "" : ", ") + std::string(isa.table.isa);
  }
  throw std::invalid_argument(std::string(source) + " is '" + name +
                              "', expected one that runs here: " + choices);
}

const KernelTable& best() {
  for (const Isa& isa : isas)
    if (isa.runs_here()) return isa.table;
  throw std::runtime_error(
      "bptt: this CPU runs none of the compiled kernels (x86-64 needs SSE4.2)");
}

}  // namespace

const KernelTable& active_kernels() {
  const KernelTable* table = active.load(std::memory_order_acquire);
  if (table) return *table;
  const char* name = std::getenv("BPTT_ISA");
  const KernelTable& chosen = name && *name ? find(name, "BPTT_ISA") : best();
  active.store(&chosen, std::memory_order_release);
  return chosen;
}

std::vector<std::string> compiled_isas() {
  std::vector<std::string> names;
  for (const Isa& isa : isas) names.push_back(isa.table.isa);
  return names;
}

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Isa& isa : isas)
    if (isa.runs_here()) names.push_back(isa.table.isa);
  return names;
}

std::string active_isa() { return active_kernels().isa; }

bool has_bf16() { return active_kernels().bf16 != nullptr; }

void set_isa(const std::string& name) {
  active.store(&find(name, "isa"), std::memory_order_release);
}

double fma_gflops(double seconds) {
  const KernelTable& table = active_kernels();
  const auto start = std::chrono::steady_clock::now();
  double operations = 0, elapsed;
  volatile float factor = 1e-9f;  // so small that no sum ever changes, or overflows
  do {
    float out;
    operations += table.multiply_adds(1000, factor, &out);
    elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  } while (elapsed < seconds);
  return 1e-9 * operations / elapsed;
}

}  // namespace bptt
