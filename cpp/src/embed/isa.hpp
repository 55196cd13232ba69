// SPDX-License-Identifier: MIT
#pragma once
#include "kernel_table.hpp"

namespace bptt {

const KernelTable* embedded_kernels();  // those in use; null: the CPU runs none

}  // namespace bptt
