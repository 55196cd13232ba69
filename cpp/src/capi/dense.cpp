// SPDX-License-Identifier: MIT
// The layers of bptt.h that have no loop over time.
#include "dense/dense.hpp"

#include <limits>

#include "capi/validate.hpp"

namespace bptt::core {
namespace {

// Two sizes, whose names are given, and the arrays that they make with the batch.
bptt_status check_sizes(const char* f, bptt_dtype dtype, const char* first, Index rows,
                        const char* second, Index columns, Index batch) {
  if (dtype != BPTT_FLOAT32 && dtype != BPTT_FLOAT64)
    return refuse(BPTT_INVALID_ARGUMENT, f, "dtype is ", static_cast<Index>(dtype),
                  ", expected BPTT_FLOAT32 or BPTT_FLOAT64");
  const struct {
    const char* name;
    Index value, least;
  } sizes[] = {{"batch", batch, 0}, {first, rows, 1}, {second, columns, 1}};
  for (const auto& s : sizes)
    if (s.value < s.least)
      return refuse(BPTT_INVALID_ARGUMENT, f, s.name, " is ", s.value, ", expected ", s.least,
                    " or more");
  constexpr Index most = std::numeric_limits<Index>::max() / Index(sizeof(double));
  const Index widest = rows > columns ? rows : columns;
  if (rows > most / columns || batch > most / widest)
    return refuse(BPTT_TOO_LARGE, f, "batch, ", first, ", ", second, " are ", batch, ", ", rows,
                  ", ", columns, ", expected fewer: their arrays cannot be addressed");
  return BPTT_OK;
}

template <class T>
bptt_status run_linear(const char* f, const LinearCall<void>& c) {
  BPTT_TRY(check_array<T>(f, "weight", c.weight, c.O * c.I));
  BPTT_TRY(check_array<T>(f, "bias", c.bias, c.O, true));
  BPTT_TRY(check_array<T>(f, "x", c.x, c.B * c.I));
  BPTT_TRY(check_array<T>(f, "y", c.y, c.B * c.O));
  linear(LinearCall<T>{c.B, c.I, c.O, c.activation, static_cast<const T*>(c.x),
                       static_cast<const T*>(c.weight), static_cast<const T*>(c.bias),
                       static_cast<T*>(c.y)});
  return BPTT_OK;
}

template <class T>
bptt_status run_layer_norm(const char* f, const LayerNormCall<void>& c) {
  BPTT_TRY(check_array<T>(f, "weight", c.weight, c.size));
  BPTT_TRY(check_array<T>(f, "bias", c.bias, c.size));
  BPTT_TRY(check_array<T>(f, "x", c.x, c.B * c.size));
  BPTT_TRY(check_array<T>(f, "y", c.y, c.B * c.size));
  layer_norm(LayerNormCall<T>{c.B, c.size, c.eps, static_cast<const T*>(c.x),
                              static_cast<const T*>(c.weight), static_cast<const T*>(c.bias),
                              static_cast<T*>(c.y)});
  return BPTT_OK;
}

}  // namespace
}  // namespace bptt::core

bptt_status bptt_linear(bptt_dtype dtype, const char* activation, ptrdiff_t batch, ptrdiff_t inputs,
                        ptrdiff_t outputs, const void* weight, const void* bias, const void* x,
                        void* y) {
  using namespace bptt::core;
  constexpr const char* f = "bptt_linear";
  BPTT_TRY(check_sizes(f, dtype, "outputs", outputs, "inputs", inputs, batch));
  DenseActivation found = DenseActivation::identity;
  if (activation && !find_dense_activation(activation, found))
    return refuse(BPTT_INVALID_ARGUMENT, f, "activation is '", activation, "', expected ",
                  dense_activation_list);
  const LinearCall<void> call{batch, inputs, outputs, found, x, weight, bias, y};
  return dtype == BPTT_FLOAT32 ? run_linear<float>(f, call) : run_linear<double>(f, call);
}

bptt_status bptt_layer_norm(bptt_dtype dtype, ptrdiff_t batch, ptrdiff_t size, double eps,
                            const void* weight, const void* bias, const void* x, void* y) {
  using namespace bptt::core;
  constexpr const char* f = "bptt_layer_norm";
  BPTT_TRY(check_sizes(f, dtype, "size", size, "size", 1, batch));
  if (!(eps > 0))
    return refuse(BPTT_INVALID_ARGUMENT, f, "eps is not positive, expected more than 0");
  const LayerNormCall<void> call{batch, size, eps, x, weight, bias, y};
  return dtype == BPTT_FLOAT32 ? run_layer_norm<float>(f, call) : run_layer_norm<double>(f, call);
}
