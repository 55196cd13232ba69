// SPDX-License-Identifier: MIT
// The data caches that the kernels cut their products for: those of this machine, or other sizes.
#pragma once
#include <string>

#include "kernels/interface.hpp"

namespace bptt::core {

// As BPTT_CACHES says, else as CPUID or the operating system does, else those of a small machine;
// read at the first call. Throws std::invalid_argument if BPTT_CACHES is no list of three sizes.
Caches caches();

// Replaces them from the next call on, for the whole process: a list as in BPTT_CACHES, or "" to
// read them again. Throws std::invalid_argument, naming `source`, if it is neither.
void set_caches(const std::string& list, const char* source);

// The list, "32k,512k,32m".
std::string to_string(const Caches& sizes);

}  // namespace bptt::core
