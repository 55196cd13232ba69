// SPDX-License-Identifier: MIT
// The one list of cells. A new cell is a file of equations, its include and its name here.
#pragma once
#include "cells/lstm.inl"
#include "cells/lstm1997.inl"
#include "cells/gru.inl"
#include "cells/rnn.inl"
#include "cells/mgu.inl"
#include "cells/slstm.inl"
#include "cells/layer_norm.inl"

BPTT_KERNELS_BEGIN

using LstmOwnForget = LstmGeneral<true>;
using LstmNoForget = LstmGeneral<false>;
using LstmProjectedOwnForget = LstmProjected<true>;
using LstmProjectedNoForget = LstmProjected<false>;

using LayerNormRnn = LayerNorm<RnnGeneral>;
using LayerNormGru = LayerNorm<GruGeneral>;
using LayerNormMgu = LayerNorm<Mgu>;
using LayerNormSlstm = LayerNorm<Slstm>;
using LayerNormLstmOwnForget = LayerNormLstm<LstmOwnForget>;
using LayerNormLstmNoForget = LayerNormLstm<LstmNoForget>;
using LayerNormLstmProjectedOwnForget = LayerNormLstm<LstmProjectedOwnForget>;
using LayerNormLstmProjectedNoForget = LayerNormLstm<LstmProjectedNoForget>;

BPTT_KERNELS_END

// Plain cells have products in bfloat16 as well, and are in the library to embed. The other cells
// are in objects of their own. Rare ones are not compiled for vectors of 64 bytes, where the
// kernels for 32 bytes serve, and over dual numbers, but for MGU, for vectors of 16 bytes alone:
// each would add some 20 kB to the package, and seconds to the build.
// clang-format off
#define BPTT_PLAIN_CELLS(X) X(Rnn) X(Lstm) X(Gru)
#define BPTT_COMMON_CELLS(X) \
  X(RnnGeneral) X(LstmOwnForget) X(GruGeneral) X(GruBefore) X(LstmProjectedOwnForget) X(Slstm) \
  X(LayerNormRnn) X(LayerNormLstmOwnForget) X(LayerNormGru)
#define BPTT_RARE_CELLS(X) \
  X(LstmNoForget) X(Mgu) X(Lstm1997) X(LstmProjectedNoForget) X(LayerNormMgu) X(LayerNormSlstm) \
  X(LayerNormLstmNoForget) X(LayerNormLstmProjectedOwnForget) X(LayerNormLstmProjectedNoForget)
#if BPTT_VECTOR_BYTES == 64
#define BPTT_OTHER_CELLS(X) BPTT_COMMON_CELLS(X)
#elif BPTT_VECTOR_BYTES == 32 && defined(BPTT_DUAL)
#define BPTT_OTHER_CELLS(X) BPTT_COMMON_CELLS(X) X(Mgu)
#else
#define BPTT_OTHER_CELLS(X) BPTT_COMMON_CELLS(X) BPTT_RARE_CELLS(X)
#endif
#if defined(BPTT_DUAL)
#define BPTT_CELLS(X) BPTT_PLAIN_CELLS(X) BPTT_OTHER_CELLS(X)
#elif defined(BPTT_OTHERS)
#define BPTT_CELLS(X) BPTT_OTHER_CELLS(X)
#else
#define BPTT_CELLS(X) BPTT_PLAIN_CELLS(X)
#endif
// clang-format on
