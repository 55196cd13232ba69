// SPDX-License-Identifier: MIT
// The one list of cells. A new cell is a header of equations, its include and its name here.
#include "activations.hpp"
#include "lstm.hpp"
#include "lstm1997.hpp"
#include "gru.hpp"
#include "rnn.hpp"
#include "mgu.hpp"
#include "slstm.hpp"
#include "normal.hpp"

using LstmOwnForget = LstmGeneral<true>;
using LstmNoForget = LstmGeneral<false>;
using LstmProjectedOwnForget = LstmProjected<true>;
using LstmProjectedNoForget = LstmProjected<false>;

// Does w_hh see h, and the states from the third on, side by side, and does the gradient end there?
template <class Cell>
constexpr bool truncated = false;
template <>
constexpr bool truncated<Lstm1997> = true;

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

// Those of one product in bfloat16 as well as in the precision of the results, and the others.
// clang-format off
#define BPTT_PLAIN_CELLS(X) X(Rnn) X(Lstm) X(Gru)
#define BPTT_CELLS(X) \
  BPTT_PLAIN_CELLS(X) \
  X(RnnGeneral) X(LstmOwnForget) X(LstmNoForget) X(GruGeneral) X(Mgu) X(Slstm) \
  X(GruBefore) X(LstmProjectedOwnForget) X(LstmProjectedNoForget) X(Lstm1997) \
  X(NormalRnn) X(NormalGru) X(NormalMgu) X(NormalSlstm) \
  X(NormalLstmOwnForget) X(NormalLstmNoForget) \
  X(NormalLstmProjectedOwnForget) X(NormalLstmProjectedNoForget)
// clang-format on
