// SPDX-License-Identifier: MIT
#include "isa.hpp"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <stdexcept>

#include "bptt/isa.hpp"

namespace bptt {

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
  const KernelTable& table;
  bool (*runs_here)();
};

// Best first. The built-in tests look at what the operating system saves as well as at the CPU.
const Isa isas[] = {
#if defined(__x86_64__)
    {avx512::table,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512vl");
     }},
    {avx2::table,
     [] {
       return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
              __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
     }},
    {sse42::table,
     [] { return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt"); }},
#elif defined(__aarch64__)
    {neon::table, [] { return true; }},
#else
    {generic::table, [] { return true; }},
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
