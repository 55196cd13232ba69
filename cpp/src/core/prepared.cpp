// SPDX-License-Identifier: MIT
#include "core/prepared.hpp"

#include "core/find_kernel.hpp"
#include "threads/barrier.hpp"

namespace bptt::core {
namespace {

// The same shapes over other memory.
template <class T>
void point_to(const T* data, Tensor<const T>& weights) {
  if (weights) weights.data = data;
}

// What stays from call to call.
template <class T>
Inputs<T> weights_of(const Inputs<T>& in) {
  Inputs<T> weights = in;
  weights.lengths = {}, weights.resets = {}, weights.h_mask = {};
  std::fill(weights.state, weights.state + max_states, Tensor<const T>());
  std::fill(weights.zoneout, weights.zoneout + 2, Tensor<const T>());
  return weights;
}

template <class T>
std::size_t bytes_of(const Spec& spec, const CellKernels<T>& cell, const Inputs<T>& weights) {
  if (spec.train) refuse(spec.caller, "train is set, expected inference");
  return cell.weights_bytes(check_inputs(spec, cell, weights));
}

}  // namespace

template <class T>
Prepared<T>::Prepared(const Spec& spec, const Inputs<T>& in)
    : spec_(spec),
      cell_(&find_kernel<T>(spec, in)),
      masked_(in.h_mask || in.zoneout[0] || in.zoneout[1]),
      shapes_(weights_of(in)),
      bytes_(bytes_of(spec, *cell_, shapes_)),
      memory_(bytes_) {
  const Dims d = check_inputs(spec, *cell_, shapes_);
  ForwardCall<T> call = forward_call(d, options_of(spec), shapes_);
  call.extras = extras_of(spec, shapes_, d), call.packs = Packs::all;
  call.weights = memory_.get();
  cell_->pack(call, alone);
  shapes_.x = {};
  const T* data = static_cast<const T*>(memory_.get());
  for (Tensor<const T>* w : {&shapes_.w_ih, &shapes_.w_hh, &shapes_.w_hr, &shapes_.b_ih,
                             &shapes_.b_hh, &shapes_.peepholes, &shapes_.leak})
    point_to(data, *w);
  for (Tensor<const T>& gain : shapes_.layer_norm) point_to(data, gain);
}

template class Prepared<float>;
template class Prepared<double>;

}  // namespace bptt::core
