// SPDX-License-Identifier: MIT
// A function to call, whatever its type: what takes one is compiled once, not for every caller.
#pragma once
#include "kernels/target.inl"

namespace bptt::core::BPTT_ISA {
namespace {

template <class... Args>
struct Callback {
  const void* object;
  void (*function)(const void*, Args...);

  template <class F>
  BPTT_INLINE Callback(const F& f)
      : object(&f),
        function([](const void* of, Args... args) { (*static_cast<const F*>(of))(args...); }) {}
  BPTT_INLINE void operator()(Args... args) const { function(object, args...); }
};

}  // namespace
}  // namespace bptt::core::BPTT_ISA
