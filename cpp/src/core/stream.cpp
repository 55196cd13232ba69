// SPDX-License-Identifier: MIT
#include "core/stream.hpp"

#include <algorithm>
#include <cstring>
#include <new>

#include "threads/count.hpp"
#include "core/find_kernel.hpp"
#include "threads/pool.hpp"

namespace bptt::core {
namespace {

constexpr Index block_steps = 32;  // of one call of the kernels

struct Free {
  void operator()(void* p) const { ::operator delete(p, std::align_val_t(64)); }
};
using Memory = std::unique_ptr<void, Free>;

Memory allocate(std::size_t bytes) { return Memory(::operator new(bytes, std::align_val_t(64))); }

// The team of the calling thread alone.
Team alone(StopRequest& stop) {
  return {0,
          1,
          nullptr,
          &stop,
          [](void*) { return true; },
          [](void* s, int) {
            const auto* request = static_cast<StopRequest*>(s);
            return request->requested && request->requested(request->context);
          }};
}

}  // namespace

template <class T>
struct Stream<T>::Impl {
  const CellKernels<T>& cell;
  Dims dims;                 // of a full block
  std::vector<Index> order;  // the schedule's
  Schedule schedule;
  bool bf16;
  ForwardCall<T> call{};
  Memory memory;

  static Dims checked(const Spec& spec, const CellKernels<T>& cell, const Inputs<T>& in) {
    if (in.lengths || in.resets || spec.reverse || spec.dilation != 1)
      refuse(spec.caller,
             "lengths, resets, reverse or dilation are given, expected a stream without");
    if (in.h_mask || in.zoneout[0] || in.zoneout[1] || spec.skip)
      refuse(spec.caller,
             "h_mask, zoneout of each step or skip are given, expected a stream without");
    Dims d = check_inputs(spec, cell, in);
    d.T = block_steps, d.masked = d.U > d.P;
    return d;
  }

  Impl(const Spec& spec, const Inputs<T>& in)
      : cell(find_cell<T>(spec, in)),
        dims(checked(spec, cell, in)),
        order(static_cast<std::size_t>(Schedule::size(dims.T))),
        schedule(order.data(), dims, {}, false, 1, 128),
        bf16(spec.bf16),
        memory(allocate(place(nullptr))) {
    place(memory.get());
    call.dims = dims, call.rows = schedule.rows(), call.options = options_of(spec);
    call.w_ih = in.w_ih.data, call.w_hh = in.w_hh.data, call.w_hr = in.w_hr.data;
    call.b_ih = in.b_ih.data, call.b_hh = in.b_hh.data;
    call.extras.params = in.peepholes.data;
    for (int i = 0; i < 4; ++i) call.extras.layer_norm[i] = in.layer_norm[i].data;
    for (int q = 0; q < 2; ++q) call.extras.zoneout_of_all[q] = static_cast<T>(spec.zoneout[q]);
    StopRequest never;
    cell.pack(call, alone(never));
    call.w_ih = call.w_hh = call.w_hr = call.b_ih = call.b_hh = nullptr;  // the caller's
    call.extras.params = nullptr;
    std::fill(call.extras.layer_norm, call.extras.layer_norm + 4, nullptr);
    for (int q = 0; q < cell.states; ++q) {
      const auto bytes = static_cast<std::size_t>(dims.B * width_of(dims, q)) * sizeof(T);
      call.state0[q] = call.state_n[q];
      if (in.state[q])
        std::memcpy(call.state_n[q], in.state[q].data, bytes);
      else
        std::memset(call.state_n[q], 0, bytes);
    }
  }

  // Those of a large layer share its units.
  int ranks() const {
    constexpr double least = 4e5;  // operations of one thread in a step
    const double step = 2.0 * static_cast<double>(cell.gates * dims.H) *
                        static_cast<double>((dims.I + dims.U) * dims.B);
    return bf16 || step < 2 * least ? 1 : std::min(threads(), static_cast<int>(step / least));
  }

  std::size_t place(void* buffer) {
    Pieces pieces{static_cast<char*>(buffer)};
    call.weights = pieces.take<char>(static_cast<Index>(cell.weights_bytes(dims)));
    call.scratch =
        pieces.take<char>(static_cast<Index>(cell.forward_scratch_bytes(dims, dims.T * dims.B)));
    for (int q = 0; q < cell.states; ++q)
      call.state_n[q] = pieces.take<T>(dims.B * width_of(dims, q));
    return pieces.used;
  }
};

template <class T>
Stream<T>::Stream(const Spec& spec, const Inputs<T>& inputs) : impl_(new Impl(spec, inputs)) {}
template <class T>
Stream<T>::Stream(Stream&&) noexcept = default;
template <class T>
Stream<T>::~Stream() = default;

template <class T>
std::ptrdiff_t Stream<T>::batch() const {
  return impl_->dims.B;
}
template <class T>
std::ptrdiff_t Stream<T>::input_size() const {
  return impl_->dims.I;
}
template <class T>
std::ptrdiff_t Stream<T>::width(int q) const {
  return width_of(impl_->dims, q);
}
template <class T>
int Stream<T>::states() const {
  return impl_->cell.states;
}

template <class T>
bool Stream<T>::process(const T* x, std::ptrdiff_t steps, T* y, StopRequest stop) {
  Impl& s = *impl_;
  const Index B = s.dims.B;
  const Index one[] = {0, 1};
  ForwardCall<T> call = s.call;
  for (Index t = 0; t < steps; t += call.dims.T) {
    call.dims.T = std::min(steps - t, block_steps);
    const Index whole[] = {0, call.dims.T};
    call.rows.chunk = whole, call.rows.segment = one;
    call.rows.chunks = call.rows.segments = 1;
    call.x = x + t * B * s.dims.I, call.y = y + t * B * s.dims.P;
    if (s.ranks() == 1) {
      if (!s.cell.forward(call, alone(stop))) return false;
    } else {
      Lease threads(s.ranks());
      if (!threads.run(stop, [&](const Team& team) { s.cell.forward(call, team); })) return false;
    }
  }
  return true;
}

template <class T>
T* Stream<T>::state(int q) {
  return impl_->call.state_n[q];
}

template class Stream<float>;
template class Stream<double>;

}  // namespace bptt::core
