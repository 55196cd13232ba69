// SPDX-License-Identifier: MIT
// The kernels that the C interface uses.
#pragma once
#include "kernels/interface.hpp"

namespace bptt::core {

const KernelTable* embedded_kernels();  // null: the CPU runs none
Caches embedded_caches();               // of the machine

}  // namespace bptt::core
