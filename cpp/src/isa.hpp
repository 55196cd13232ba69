// SPDX-License-Identifier: MIT
#pragma once
#include "kernel_table.hpp"

namespace bptt {

const KernelTable& active_kernels();  // throws std::invalid_argument if BPTT_ISA is wrong

}  // namespace bptt
