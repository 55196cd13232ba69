// SPDX-License-Identifier: MIT
// Clipping and optimiser steps, in the order of operations of the Python package. Compiled without
// fused multiply-adds, which would round otherwise; they keep subnormal numbers, as NumPy does.
#include <cmath>

#include "capi/validate.hpp"
#include "kernels/float_state.hpp"

namespace bptt::core {
namespace {

// f(zero of the type).
template <class F>
bptt_status for_dtype(const char* function, bptt_dtype dtype, const F& f) {
  const FloatState state(FloatRegisters::standard());
  if (dtype == BPTT_FLOAT32) return f(0.0f);
  if (dtype == BPTT_FLOAT64) return f(0.0);
  return refuse(BPTT_INVALID_ARGUMENT, function, "dtype is ", static_cast<Index>(dtype),
                ", expected BPTT_FLOAT32 or BPTT_FLOAT64");
}

bptt_status check_range(const char* function, const char* name, double value, double below) {
  if (value >= 0 && value < below) return BPTT_OK;
  return refuse(BPTT_INVALID_ARGUMENT, function, name, " is out of its range, expected 0 or more",
                below <= 1 ? " and less than 1" : "");
}

// An array of n elements.
template <class T>
bptt_status check_many(const char* function, const char* name, const T* p, std::size_t n) {
  constexpr std::size_t most = std::numeric_limits<Index>::max() / sizeof(T);
  if (n > most)
    return refuse(BPTT_TOO_LARGE, function, name, " has ", n, " elements, expected at most ", most,
                  ": more cannot be addressed");
  if (!p && n)
    return refuse(BPTT_INVALID_ARGUMENT, function, name, " is null, expected ", n, " elements");
  return check_memory(function, name, p, 0, alignof(T));
}

template <class T>
double largest(std::size_t count, void* const* gradients, const std::size_t* sizes) {
  double most = 0;
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t j = 0; j < sizes[i]; ++j) {
      const double g = std::fabs(static_cast<double>(static_cast<const T*>(gradients[i])[j]));
      if (!(g <= most)) most = g;  // a NaN stays
      if (std::isnan(most)) return most;
    }
  return most;
}

template <class T>
bptt_status clip_norm(const char* function, std::size_t count, void* const* gradients,
                      const std::size_t* sizes, double max_norm, double* norm) {
  constexpr double finite = std::numeric_limits<double>::max();
  const auto each = [&](const auto& f) {
    for (std::size_t i = 0; i < count; ++i)
      for (std::size_t j = 0; j < sizes[i]; ++j) f(static_cast<T*>(gradients[i])[j]);
  };
  const double most = largest<T>(count, gradients, sizes);
  double sum = 0;  // of squares of values up to 1, which neither overflow nor vanish
  if (most > 0 && most <= finite)
    each([&](const T& g) {
      const double scaled = static_cast<double>(g) / most;
      sum += scaled * scaled;
    });
  const double root = std::sqrt(sum), whole = most <= finite ? most * root : most;
  if (norm) *norm = whole;
  if (!(whole <= finite))
    return refuse(BPTT_INVALID_ARGUMENT, function,
                  "gradients are not finite, or their norm is not, expected both finite");
  if (whole > max_norm)
    each([&](T& g) { g = static_cast<T>(static_cast<double>(g) / most * (max_norm / root)); });
  return BPTT_OK;
}

template <class T>
void sgd(std::size_t n, T* p, const T* g, T* v, double lr, double momentum) {
  const T rate = static_cast<T>(lr), decay = static_cast<T>(momentum);
  for (std::size_t i = 0; i < n; ++i) {
    T step = g[i];
    if (v) step = v[i] = (momentum != 0 ? decay * v[i] : T(0)) + g[i];
    p[i] -= rate * step;
  }
}

template <class T>
void adam(std::size_t n, T* p, const T* g, T* m, T* v, double step, double lr, double beta1,
          double beta2, double eps) {
  const T d1 = static_cast<T>(1 - beta1), d2 = static_cast<T>(1 - beta2);
  const T b2 = static_cast<T>(beta2), e = static_cast<T>(eps);
  const T rate = static_cast<T>(lr / (1 - std::pow(beta1, step)));
  const T root = static_cast<T>(std::pow(1 - std::pow(beta2, step), 0.5));
  for (std::size_t i = 0; i < n; ++i) {
    m[i] += d1 * (g[i] - m[i]);
    v[i] *= b2;
    v[i] += d2 * g[i] * g[i];
    p[i] -= rate * m[i] / (std::sqrt(v[i]) / root + e);
  }
}

}  // namespace
}  // namespace bptt::core

bptt_status bptt_clip_grad_norm(bptt_dtype dtype, size_t count, void* const* gradients,
                                const size_t* sizes, double max_norm, double* norm) {
  using namespace bptt::core;
  constexpr const char* f = "bptt_clip_grad_norm";
  return for_dtype(f, dtype, [&](auto zero) -> bptt_status {
    using T = decltype(zero);
    if (!(max_norm > 0))
      return refuse(BPTT_INVALID_ARGUMENT, f, "max_norm is not positive, expected more than 0");
    BPTT_TRY(check_many(f, "gradients", gradients, count));
    BPTT_TRY(check_many(f, "sizes", sizes, count));
    BPTT_TRY(check_memory(f, "norm", norm, 0, alignof(double)));
    for (std::size_t i = 0; i < count; ++i)
      BPTT_TRY(check_many(f, "an array of gradients", static_cast<T*>(gradients[i]), sizes[i]));
    return clip_norm<T>(f, count, gradients, sizes, max_norm, norm);
  });
}

bptt_status bptt_sgd(bptt_dtype dtype, size_t n, void* parameters, const void* gradients,
                     void* velocity, double lr, double momentum) {
  using namespace bptt::core;
  constexpr const char* f = "bptt_sgd";
  return for_dtype(f, dtype, [&](auto zero) -> bptt_status {
    using T = decltype(zero);
    constexpr double any = std::numeric_limits<double>::infinity();
    BPTT_TRY(check_range(f, "lr", lr, any));
    BPTT_TRY(check_range(f, "momentum", momentum, any));
    T *p = static_cast<T*>(parameters), *v = static_cast<T*>(velocity);
    const T* g = static_cast<const T*>(gradients);
    BPTT_TRY(check_many(f, "parameters", p, n));
    BPTT_TRY(check_many(f, "gradients", g, n));
    BPTT_TRY(check_many(f, "velocity", v, momentum != 0 ? n : 0));
    sgd(n, p, g, v, lr, momentum);
    return BPTT_OK;
  });
}

bptt_status bptt_adam(bptt_dtype dtype, size_t n, void* parameters, const void* gradients,
                      void* mean, void* square, ptrdiff_t step, double lr, double beta1,
                      double beta2, double eps) {
  using namespace bptt::core;
  constexpr const char* f = "bptt_adam";
  return for_dtype(f, dtype, [&](auto zero) -> bptt_status {
    using T = decltype(zero);
    constexpr double any = std::numeric_limits<double>::infinity();
    BPTT_TRY(check_range(f, "lr", lr, any));
    BPTT_TRY(check_range(f, "beta1", beta1, 1));
    BPTT_TRY(check_range(f, "beta2", beta2, 1));
    BPTT_TRY(check_range(f, "eps", eps, any));
    if (step < 1) return refuse(BPTT_INVALID_ARGUMENT, f, "step is ", step, ", expected 1 or more");
    T *p = static_cast<T*>(parameters), *m = static_cast<T*>(mean), *v = static_cast<T*>(square);
    const T* g = static_cast<const T*>(gradients);
    BPTT_TRY(check_many(f, "parameters", p, n));
    BPTT_TRY(check_many(f, "gradients", g, n));
    BPTT_TRY(check_many(f, "mean", m, n));
    BPTT_TRY(check_many(f, "square", v, n));
    adam(n, p, g, m, v, static_cast<double>(step), lr, beta1, beta2, eps);
    return BPTT_OK;
  });
}
