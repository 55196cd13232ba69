// SPDX-License-Identifier: MIT
// The one list of cells. A new cell is a header of equations, its include and its name here.
#include "lstm.hpp"
#include "gru.hpp"
#include "rnn.hpp"

#define BPTT_CELLS(X) X(Rnn) X(Lstm) X(Gru)
