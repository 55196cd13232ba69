/* SPDX-License-Identifier: MIT */
/* A million steps, training and refused calls with every allocation counted, and, from the first
 * call of the library to the last, no system call but write: any other would kill the program.
 * To be linked with -Wl,--wrap= for malloc, calloc, realloc and free. */
#define _GNU_SOURCE
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bptt.h"

static long counted;

#define WRAP(result, name, parameters, arguments) \
  result __real_##name parameters;                \
  result __wrap_##name parameters;                \
  result __wrap_##name parameters {               \
    ++counted;                                    \
    return __real_##name arguments;               \
  }
WRAP(void*, malloc, (size_t n), (n))
WRAP(void*, calloc, (size_t n, size_t m), (n, m))
WRAP(void*, realloc, (void* p, size_t n), (p, n))

void __real_free(void* p);
void __wrap_free(void* p);
void __wrap_free(void* p) {
  ++counted;
  __real_free(p);
}

static char memory[1 << 22];
static size_t used;

static void* take(size_t bytes) {
  char* start = memory + (BPTT_ALIGNMENT - (size_t)memory % BPTT_ALIGNMENT);
  char* p = start + used;
  used += (bytes + BPTT_ALIGNMENT - 1) / BPTT_ALIGNMENT * BPTT_ALIGNMENT;
  return used + BPTT_ALIGNMENT > sizeof memory ? NULL : p;
}

static long steps(const char* cell, bptt_dtype dtype, int H, long count) {
  const int T = 30, B = 2, I = 3, G = 4;
  const size_t one = dtype == BPTT_FLOAT32 ? sizeof(float) : sizeof(double);
  ptrdiff_t lengths[2] = {30, 7};
  bptt_desc desc = {sizeof desc};
  bptt_sizes sizes = {sizeof sizes};
  bptt_weights weights = {NULL};
  bptt_inputs inputs = {NULL};
  bptt_outputs outputs;
  bptt_cotangents cotangents = {NULL};
  bptt_gradients d = {NULL};
  void *tape, *work, *packed, *parameters, *gradients, *mean, *square, *list[1];
  size_t numbers = (size_t)(G * H * (I + H + 2)), list_sizes[1];
  double norm;
  long failed = 0, i;

  used = 0;
  memset(memory, 0, sizeof memory);
  desc.cell = cell, desc.dtype = dtype, desc.train = 1, desc.lengths = lengths;
  desc.steps = T, desc.batch = B, desc.input_size = I, desc.hidden_size = H;
  failed += bptt_query(&desc, &sizes) != BPTT_OK;
  tape = take(sizes.tape);
  work = take(sizes.forward_workspace + sizes.backward_workspace + sizes.step_workspace);
  packed = take(sizes.packed);
  parameters = take(numbers * one), gradients = take(numbers * one);
  mean = take(numbers * one), square = take(numbers * one);
  weights.w_ih = parameters, weights.w_hh = (char*)parameters + (size_t)(G * H * I) * one;
  inputs.x = take((size_t)(T * B * I) * one);
  outputs.y = take((size_t)(T * B * H) * one);
  outputs.h_n = take((size_t)(B * H) * one), outputs.c_n = take((size_t)(B * H) * one);
  cotangents.dy = outputs.y;
  d.dx = take((size_t)(T * B * I) * one);
  d.dw_ih = gradients, d.dw_hh = (char*)gradients + (size_t)(G * H * I) * one;
  if (!outputs.c_n || !d.dx) return -1;
  for (i = 0; i < 10; ++i) {
    failed += bptt_forward(&desc, &weights, &inputs, &outputs, tape, work) != BPTT_OK;
    failed += bptt_backward(&desc, inputs.x, outputs.y, &cotangents, NULL, &d, tape, work) != 0;
    list[0] = gradients, list_sizes[0] = numbers;
    failed += bptt_clip_grad_norm(dtype, 1, list, list_sizes, 1.0, &norm) != BPTT_OK;
    failed += bptt_adam(dtype, numbers, parameters, gradients, mean, square, i + 1, 1e-3, 0.9,
                        0.999, 1e-8) != BPTT_OK;
    failed += bptt_sgd(dtype, numbers, parameters, gradients, mean, 1e-3, 0.9) != BPTT_OK;
  }
  failed += bptt_pack(&desc, &weights, packed) != BPTT_OK;
  weights.packed = packed;
  for (i = 0; i < count; ++i)
    failed += bptt_step(&desc, &weights, inputs.x, outputs.h_n, outputs.c_n, work) != BPTT_OK;
  desc.steps = -1;
  failed += bptt_forward(&desc, &weights, &inputs, &outputs, tape, work) != BPTT_INVALID_ARGUMENT;
  failed += strstr(bptt_last_error(), "steps is -1") == NULL;
  return failed;
}

int main(void) {
  char line[200];
  void* volatile some = malloc(1);
  long failed, before;
  int strict;
  free(some);
  if (counted != 2) return 3; /* the counter counts */
  before = counted;
  strict = prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0;
  failed = steps("lstm", BPTT_FLOAT32, 16, 500000);
  failed += steps("gru", BPTT_FLOAT64, 9, 250000);
  failed += steps("rnn", BPTT_FLOAT32, 40, 250000);
  if (write(1, line,
            (size_t)sprintf(line, "failed %ld, allocations %ld, system calls %s\n", failed,
                            counted - before, strict ? "none" : "not looked at")) < 0)
    failed = 1;
  syscall(SYS_exit, failed != 0);
  return 1;
}
