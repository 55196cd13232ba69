// SPDX-License-Identifier: MIT
// The kernels in use. One binary holds kernels for every instruction set of its architecture; the
// best one that the CPU and the operating system support is chosen at the first call, or the one
// that BPTT_ISA names.
#pragma once
#include <string>
#include <vector>

#include "kernels/interface.hpp"

namespace bptt::core {

std::vector<std::string> compiled_isas();   // in this binary, best first
std::vector<std::string> available_isas();  // of those, the ones that run here, best first

// The one in use. Throws std::invalid_argument if BPTT_ISA names none of available_isas().
std::string active_isa();

// Changes it from the next call on, for the whole process; a tape stays with the kernels that wrote
// it. Throws std::invalid_argument if `name` is none of available_isas().
void set_isa(const std::string& name);

// Can the one in use compute products in bfloat16 (Spec::bf16)?
bool has_bf16();

// 1e9 float32 operations per second of the multiply-add units, on the calling thread, over at least
// `seconds`: no kernel of the instruction set in use could reach more.
double fma_gflops(double seconds);

// The cells of the one in use, without their general and other variants.
struct CellInfo {
  std::string name;
  int gates, states;
};
std::vector<CellInfo> cells();

// The tables of the one in use, and after them those that have what these lack; the list ends with
// null. Throws as active_isa().
const KernelTable* const* active_kernels();

}  // namespace bptt::core
