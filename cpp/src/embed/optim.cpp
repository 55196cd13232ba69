// SPDX-License-Identifier: MIT
// Clipping and optimiser steps, in the order of operations of the Python package. Compiled without
// fused multiply-adds, which would round otherwise.
#include <cmath>

#include "check.hpp"

namespace bptt {
namespace {

// f(zero of the type).
template <class F>
bptt_status for_dtype(const char* function, bptt_dtype dtype, const F& f) {
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

bptt_status check_numbers(const char* function, bptt_dtype dtype, const char* name, const void* p,
                          std::size_t n) {
  if (!p && n)
    return refuse(BPTT_INVALID_ARGUMENT, function, name, " is null, expected ",
                  static_cast<Index>(n), " numbers");
  return check_memory(function, name, p, 0,
                      dtype == BPTT_FLOAT32 ? alignof(float) : alignof(double));
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
void clip_norm(std::size_t count, void* const* gradients, const std::size_t* sizes, double most,
               double max_norm, double* norm) {
  double sum = 0;  // of squares of values up to 1, which neither overflow nor vanish
  const auto each = [&](const auto& f) {
    for (std::size_t i = 0; i < count; ++i)
      for (std::size_t j = 0; j < sizes[i]; ++j) f(static_cast<T*>(gradients[i])[j]);
  };
  each([&](T& g) {
    const double scaled = static_cast<double>(g) / most;
    sum += scaled * scaled;
  });
  const double root = std::sqrt(sum);
  if (norm) *norm = most * root;
  if (most * root > max_norm)
    each([&](T& g) { g = static_cast<T>(static_cast<double>(g) / most * (max_norm / root)); });
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
}  // namespace bptt

bptt_status bptt_clip_grad_norm(bptt_dtype dtype, size_t count, void* const* gradients,
                                const size_t* sizes, double max_norm, double* norm) {
  using namespace bptt;
  constexpr const char* f = "bptt_clip_grad_norm";
  return for_dtype(f, dtype, [&](auto zero) -> bptt_status {
    using T = decltype(zero);
    if (!(max_norm > 0))
      return refuse(BPTT_INVALID_ARGUMENT, f, "max_norm is not positive, expected more than 0");
    if (count && (!gradients || !sizes))
      return refuse(BPTT_INVALID_ARGUMENT, f, "gradients or sizes is null, expected both");
    for (std::size_t i = 0; i < count; ++i)
      BPTT_TRY(check_numbers(f, dtype, "an array of gradients", gradients[i], sizes[i]));
    const double most = largest<T>(count, gradients, sizes);
    if (norm) *norm = most;
    if (!(most <= std::numeric_limits<double>::max()))
      return refuse(BPTT_INVALID_ARGUMENT, f, "gradients are not finite, expected finite ones");
    if (most > 0) clip_norm<T>(count, gradients, sizes, most, max_norm, norm);
    return BPTT_OK;
  });
}

bptt_status bptt_sgd(bptt_dtype dtype, size_t n, void* parameters, const void* gradients,
                     void* velocity, double lr, double momentum) {
  using namespace bptt;
  constexpr const char* f = "bptt_sgd";
  return for_dtype(f, dtype, [&](auto zero) -> bptt_status {
    using T = decltype(zero);
    constexpr double any = std::numeric_limits<double>::infinity();
    BPTT_TRY(check_range(f, "lr", lr, any));
    BPTT_TRY(check_range(f, "momentum", momentum, any));
    BPTT_TRY(check_numbers(f, dtype, "parameters", parameters, n));
    BPTT_TRY(check_numbers(f, dtype, "gradients", gradients, n));
    BPTT_TRY(check_numbers(f, dtype, "velocity", velocity, momentum != 0 ? n : 0));
    sgd(n, static_cast<T*>(parameters), static_cast<const T*>(gradients), static_cast<T*>(velocity),
        lr, momentum);
    return BPTT_OK;
  });
}

bptt_status bptt_adam(bptt_dtype dtype, size_t n, void* parameters, const void* gradients,
                      void* mean, void* square, ptrdiff_t step, double lr, double beta1,
                      double beta2, double eps) {
  using namespace bptt;
  constexpr const char* f = "bptt_adam";
  return for_dtype(f, dtype, [&](auto zero) -> bptt_status {
    using T = decltype(zero);
    constexpr double any = std::numeric_limits<double>::infinity();
    BPTT_TRY(check_range(f, "lr", lr, any));
    BPTT_TRY(check_range(f, "beta1", beta1, 1));
    BPTT_TRY(check_range(f, "beta2", beta2, 1));
    BPTT_TRY(check_range(f, "eps", eps, any));
    if (step < 1) return refuse(BPTT_INVALID_ARGUMENT, f, "step is ", step, ", expected 1 or more");
    BPTT_TRY(check_numbers(f, dtype, "parameters", parameters, n));
    BPTT_TRY(check_numbers(f, dtype, "gradients", gradients, n));
    BPTT_TRY(check_numbers(f, dtype, "mean", mean, n));
    BPTT_TRY(check_numbers(f, dtype, "square", square, n));
    adam(n, static_cast<T*>(parameters), static_cast<const T*>(gradients), static_cast<T*>(mean),
         static_cast<T*>(square), static_cast<double>(step), lr, beta1, beta2, eps);
    return BPTT_OK;
  });
}
