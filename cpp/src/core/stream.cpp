// SPDX-License-Identifier: MIT
#include "core/stream.hpp"

#include <algorithm>
#include <cstring>

#include "core/find_kernel.hpp"
#include "targets/caches.hpp"
#include "threads/count.hpp"

namespace bptt::core {
namespace {

// The steps of one call of the kernels: more for few rows, for which a call takes as long as some
// steps.
Index block_steps(const Dims& d) { return d.B <= 8 && !d.separate_operand ? 256 : 32; }

template <class T>
Dims checked(const Spec& spec, const CellKernels<T>& cell, const Inputs<T>& in) {
  if (in.lengths || in.resets || spec.reverse || spec.dilation != 1)
    refuse(spec.caller,
           "lengths, resets, reverse or dilation are given, expected a stream without");
  if (in.h_mask || in.zoneout[0] || in.zoneout[1] || spec.skip)
    refuse(spec.caller,
           "h_mask, zoneout of each step or skip are given, expected a stream without");
  Dims d = check_inputs(spec, cell, in);
  d.separate_operand = d.U > d.P, d.caches = caches();
  d.T = block_steps(d);
  return d;
}

}  // namespace

template <class T>
Stream<T>::Stream(const Spec& spec, const Inputs<T>& in)
    : cell_(find_kernel<T>(spec, in)),
      dims_(checked(spec, cell_, in)),
      order_(static_cast<std::size_t>(Schedule::size(dims_.T))),
      schedule_(order_.data(), dims_, {}, false, 1, 128),
      bf16_(spec.bf16),
      memory_(place(nullptr)) {
  const ForwardCall<T> given = forward_call(dims_, options_of(spec), in);
  call_ = given;
  call_.extras = extras_of(spec, in, dims_);
  call_.rows = schedule_.rows();
  place(memory_.get());
  cell_.pack(call_, alone);
  call_.w_ih = call_.w_hh = call_.w_hr = call_.b_ih = call_.b_hh = nullptr;  // the caller's
  call_.extras.params = nullptr;
  std::fill(call_.extras.layer_norm, call_.extras.layer_norm + 4, nullptr);
  for (int q = 0; q < cell_.states; ++q) {
    const auto bytes = static_cast<std::size_t>(dims_.B * width(q)) * sizeof(T);
    call_.state0[q] = state(q);
    if (given.state0[q])
      std::memcpy(state(q), given.state0[q], bytes);
    else
      std::memset(state(q), 0, bytes);
  }
}

template <class T>
std::size_t Stream<T>::place(void* buffer) {
  Arena arena{buffer};
  call_.weights = arena.take<char>(static_cast<Index>(cell_.weights_bytes(dims_)));
  call_.scratch =
      arena.take<char>(static_cast<Index>(cell_.forward_scratch_bytes(dims_, dims_.T * dims_.B)));
  for (int q = 0; q < cell_.states; ++q) call_.state_n[q] = arena.take<T>(dims_.B * width(q));
  return arena.used;
}

// Ranks share the units of a large layer.
template <class T>
int Stream<T>::ranks() const {
  constexpr double least = 4e5;  // operations of one thread in a step
  const double step = 2.0 * static_cast<double>(cell_.gates * dims_.H) *
                      static_cast<double>((dims_.I + dims_.U) * dims_.B);
  return bf16_ || step < 2 * least ? 1 : std::min(threads(), static_cast<int>(step / least));
}

template <class T>
bool Stream<T>::process(const T* x, Index steps, T* y, StopRequest stop) {
  const Index B = dims_.B;
  const Index one[] = {0, 1};
  ForwardCall<T> call = call_;
  for (Index t = 0; t < steps; t += call.dims.T) {
    call.dims.T = std::min(steps - t, dims_.T);
    const Index whole[] = {0, call.dims.T};
    call.rows.chunk = whole, call.rows.segment = one;
    call.rows.chunks = call.rows.segments = 1;
    call.x = x + t * B * dims_.I, call.y = y + t * B * dims_.P;
    if (ranks() == 1) {
      if (!cell_.forward(call, alone_until(stop))) return false;
    } else {
      PoolLease threads(ranks());
      if (!threads.run(stop, [&](const Team& team) { cell_.forward(call, team); })) return false;
    }
  }
  return true;
}

template class Stream<float>;
template class Stream<double>;

}  // namespace bptt::core
