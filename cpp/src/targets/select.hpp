// SPDX-License-Identifier: MIT
// Which set of kernels runs. One binary holds them for every instruction set of its architecture;
// the best one that the CPU and the operating system support is chosen at the first call, or the
// one that BPTT_ISA names.
#pragma once
#include <string>
#include <vector>

#include "kernels/interface.hpp"

namespace bptt::core {

std::vector<std::string> compiled_isas();   // in this binary, best first
std::vector<std::string> available_isas();  // of those, the ones that run here, best first

// The one in use. Throws std::invalid_argument if BPTT_ISA names none of available_isas().
std::string active_isa();

// Use another one from the next call on, for the whole process; a tape stays with the kernels that
// wrote it. Throws std::invalid_argument if it is none of available_isas().
void set_isa(const std::string& name);

// Can the one in use take products in bfloat16 (Spec::bf16)?
bool has_bf16();

// 1e9 float32 operations per second of the multiply-add units, on the calling thread, over at least
// `seconds`: the most that any kernel of the instruction set in use could reach.
double fma_gflops(double seconds);

const KernelTable& active_kernels();  // throws std::invalid_argument if BPTT_ISA is wrong

}  // namespace bptt::core
