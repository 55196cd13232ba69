// SPDX-License-Identifier: MIT
#include "targets/select.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "targets/cpu.hpp"

namespace bptt::core {

#define BPTT_KERNELS(isa, part, runs_here) \
  namespace isa {                          \
  extern const KernelTable part;           \
  }
#include "targets/targets.inc"
#undef BPTT_KERNELS

namespace {

#define BPTT_KERNELS(isa, part, runs_here) &isa::part,
const KernelTable* const tables[] = {
#include "targets/targets.inc"
    nullptr};
#undef BPTT_KERNELS
#define BPTT_KERNELS(isa, part, runs_here) runs_here,
bool (*const runs_here[])() = {
#include "targets/targets.inc"
};
#undef BPTT_KERNELS

std::atomic<const KernelTable* const*> active{nullptr};

// f(first table) of each instruction set of this binary, or of those that run here, best first.
template <class F>
void for_each_isa(bool only_here, const F& f) {
  std::string before;
  for (std::size_t i = 0; tables[i]; ++i) {
    if (before != tables[i]->isa && (!only_here || runs_here[i]())) f(tables + i);
    before = tables[i]->isa;
  }
}

std::vector<std::string> names(bool only_here) {
  std::vector<std::string> all;
  for_each_isa(only_here, [&](const KernelTable* const* first) { all.push_back((*first)->isa); });
  return all;
}

// A null name stands for the best one; `source` is where the name comes from.
const KernelTable* const* find(const char* name, const char* source) {
  const KernelTable* const* found = nullptr;
  std::string choices;
  for_each_isa(true, [&](const KernelTable* const* first) {
    choices += (choices.empty() ? "" : ", ") + std::string((*first)->isa);
    if (!found && (!name || std::string(name) == (*first)->isa)) found = first;
  });
  if (found) return found;
  if (!name)
    throw std::runtime_error(
        "bptt: this CPU runs none of the compiled kernels (x86-64 needs SSE4.2)");
  throw std::invalid_argument(std::string(source) + " is '" + name +
                              "', expected one that runs here: " + choices);
}

}  // namespace

const KernelTable* const* active_kernels() {
  const KernelTable* const* found = active.load(std::memory_order_acquire);
  if (found) return found;
  const char* name = std::getenv("BPTT_ISA");
  found = find(name && *name ? name : nullptr, "BPTT_ISA");
  active.store(found, std::memory_order_release);
  return found;
}

std::vector<std::string> compiled_isas() { return names(false); }

std::vector<std::string> available_isas() { return names(true); }

std::string active_isa() { return (*active_kernels())->isa; }

bool has_bf16() { return (*active_kernels())->bf16 != nullptr; }

void set_isa(const std::string& name) {
  active.store(find(name.c_str(), "isa"), std::memory_order_release);
}

std::vector<CellInfo> cells() {
  std::vector<CellInfo> list;
  const auto known = [&](const std::string& name) {
    return std::any_of(list.begin(), list.end(), [&](const auto& c) { return c.name == name; });
  };
  // The name of a variant has a '_'.
  for (auto table = active_kernels(); *table; ++table)
    for (int i = 0; (*table)->f32 && i < (*table)->cells; ++i)
      if (const auto& cell = (*table)->f32[i];
          std::strchr(cell.name, '_') == nullptr && !cell.layer_norms && !known(cell.name))
        list.push_back({cell.name, cell.gates, cell.states});
  return list;
}

double fma_gflops(double seconds) {
  const KernelTable* const* table = active_kernels();
  while (!(*table)->multiply_adds) ++table;
  const auto start = std::chrono::steady_clock::now();
  double operations = 0, elapsed;
  volatile float factor = 1e-9f;  // so small that no sum ever changes, or overflows
  do {
    float out;
    operations += (*table)->multiply_adds(1000, factor, &out);
    elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  } while (elapsed < seconds);
  return 1e-9 * operations / elapsed;
}

}  // namespace bptt::core
