// SPDX-License-Identifier: MIT
#include "targets/select.hpp"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <stdexcept>

#include "targets/select.hpp"
#include "targets/cpu.hpp"

namespace bptt::core {

// Every object file of an instruction set has the cells that it was compiled for.
#if defined(__x86_64__)
namespace amx {
extern const KernelTable table;
}
namespace avx512bf16 {
extern const KernelTable table;
}
namespace avx512 {
extern const KernelTable table, others;
}
namespace avx2 {
extern const KernelTable table, others, duals;
}
namespace sse42 {
extern const KernelTable table, others, duals;
}
#elif defined(__aarch64__)
namespace neon {
extern const KernelTable table, others, duals;
}
#else
namespace generic {
extern const KernelTable table, others, duals;
}
#endif

namespace {

KernelTable operator+(KernelTable table, const KernelTable& rest) {
  table.rest = &rest;
  return table;
}

struct Isa {
  KernelTable table;
  bool (*runs_here)();
};

// Best first.
#if defined(__x86_64__)
const KernelTable sse42_others = sse42::others + sse42::duals;
const KernelTable avx2_others = avx2::others + avx2::duals, avx2_all = avx2::table + avx2_others;
// What is rare is not compiled for AVX-512.
const KernelTable avx512_others = avx512::others + avx2_all;
const KernelTable avx512_all = avx512::table + avx512_others;
const Isa isas[] = {{amx::table + avx512_all, has_amx},
                    {avx512bf16::table + avx512_all, has_bf16_products},
                    {avx512_all, has_avx512},
                    {avx2_all, has_avx2},
                    {sse42::table + sse42_others, has_sse42}};
#elif defined(__aarch64__)
const KernelTable neon_others = neon::others + neon::duals;
const Isa isas[] = {{neon::table + neon_others, has_all}};
#else
const KernelTable generic_others = generic::others + generic::duals;
const Isa isas[] = {{generic::table + generic_others, has_all}};
#endif

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
  const KernelTable* table = &active_kernels();
  while (!table->multiply_adds) table = table->rest;
  const auto start = std::chrono::steady_clock::now();
  double operations = 0, elapsed;
  volatile float factor = 1e-9f;  // so small that no sum ever changes, or overflows
  do {
    float out;
    operations += table->multiply_adds(1000, factor, &out);
    elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  } while (elapsed < seconds);
  return 1e-9 * operations / elapsed;
}

}  // namespace bptt::core
