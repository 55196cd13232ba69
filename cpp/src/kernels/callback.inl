// SPDX-License-Identifier: MIT
// A reference to a function object of any type: a function that takes one is compiled once, not for
// every caller.
#pragma once
#include "kernels/target.inl"

BPTT_KERNELS_BEGIN

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

BPTT_KERNELS_END
