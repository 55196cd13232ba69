// SPDX-License-Identifier: MIT
#pragma once
#include "kernels/interface.hpp"

namespace bptt::core {

const KernelTable* embedded_kernels();  // those in use; null: the CPU runs none

}  // namespace bptt::core
