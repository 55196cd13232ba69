// SPDX-License-Identifier: MIT
// The one list of cells. A new cell is a header of equations, its include and its name here.
#include "cells/activations.inl"
#include "cells/lstm.inl"
#include "cells/lstm1997.inl"
#include "cells/gru.inl"
#include "cells/rnn.inl"
#include "cells/mgu.inl"
#include "cells/slstm.inl"
#include "cells/layer_norm.inl"

using LstmOwnForget = LstmGeneral<true>;
using LstmNoForget = LstmGeneral<false>;
using LstmProjectedOwnForget = LstmProjected<true>;
using LstmProjectedNoForget = LstmProjected<false>;

// Does w_hh see h, and the states from the third on, side by side, and does the gradient end there?
template <class Cell>
constexpr bool truncated = false;
template <>
constexpr bool truncated<Lstm1997> = true;

// Is state 3 the scale of states 1 and 2, and without a meaning where the latter is 0?
template <class Cell>
constexpr bool scaled = false;
template <>
constexpr bool scaled<Slstm> = true;

// Has it its sums normalised over a row, and has it the state c as well?
template <class Cell>
constexpr bool normal = false;
template <class Cell>
constexpr bool normal<Normal<Cell>> = true;
template <class Cell>
constexpr bool normal<NormalLstm<Cell>> = true;
template <class Cell>
constexpr bool normal_state = false;
template <class Cell>
constexpr bool normal_state<NormalLstm<Cell>> = true;

using NormalRnn = Normal<RnnGeneral>;
using NormalGru = Normal<GruGeneral>;
using NormalMgu = Normal<Mgu>;
using NormalSlstm = Normal<Slstm>;
using NormalLstmOwnForget = NormalLstm<LstmOwnForget>;
using NormalLstmNoForget = NormalLstm<LstmNoForget>;
using NormalLstmProjectedOwnForget = NormalLstm<LstmProjectedOwnForget>;
using NormalLstmProjectedNoForget = NormalLstm<LstmProjectedNoForget>;

// The plain ones: with products in bfloat16 as well, and in the library to embed. The others stand
// in objects of their own. Rare ones are not compiled for vectors of 64 bytes, where the kernels
// for 32 serve them: each costs the package some 20 kB there.
// clang-format off
#define BPTT_PLAIN_CELLS(X) X(Rnn) X(Lstm) X(Gru)
#define BPTT_COMMON_CELLS(X) \
  X(RnnGeneral) X(LstmOwnForget) X(GruGeneral) X(GruBefore) X(LstmProjectedOwnForget) X(Slstm) \
  X(NormalRnn) X(NormalLstmOwnForget) X(NormalGru)
#define BPTT_RARE_CELLS(X) \
  X(LstmNoForget) X(Mgu) X(Lstm1997) X(LstmProjectedNoForget) X(NormalMgu) X(NormalSlstm) \
  X(NormalLstmNoForget) X(NormalLstmProjectedOwnForget) X(NormalLstmProjectedNoForget)
#if BPTT_VECTOR_BYTES == 64
#define BPTT_OTHER_CELLS(X) BPTT_COMMON_CELLS(X)
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
