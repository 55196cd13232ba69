/* SPDX-License-Identifier: MIT */
/* Trains an LSTM on numbers that it makes itself, predicts, and prints every bit of the parameters
 * and outputs, so that a program in another language can be held against it. C89.
 *
 *   train [instruction set]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bptt.h"

enum { T = 12, B = 3, I = 2, H = 5, G = 4, parts = 4, updates = 20 };
static const size_t sizes[parts] = {G * H * I, G * H * H, G * H, G * H};
static const char* const names[parts] = {"w_ih", "w_hh", "b_ih", "b_hh"};

static void check(bptt_status status) {
  if (status != BPTT_OK) {
    fprintf(stderr, "%s (%s)\n", bptt_last_error(), bptt_status_string(status));
    exit(1);
  }
}

/* `size` bytes, aligned for bptt, kept to the end of the program. */
static void* memory(size_t size) {
  char* p = malloc(size + BPTT_ALIGNMENT);
  if (!p) exit(1);
  return p + (BPTT_ALIGNMENT - (size_t)p % BPTT_ALIGNMENT);
}

static float* zeros(size_t n) { return memset(memory(n * sizeof(float)), 0, n * sizeof(float)); }

/* Multiples of 1/256 in -1/2 .. 1/2. */
static void numbers(float* to, size_t n) {
  static unsigned long seed = 1;
  size_t i;
  for (i = 0; i < n; ++i) {
    seed = (seed * 1103515245ul + 12345ul) & 0x7ffffffful;
    to[i] = (float)((seed >> 16) & 255) / 256.0f - 0.5f;
  }
}

static void print(const char* name, const float* values, size_t n) {
  size_t i;
  printf("%s", name);
  for (i = 0; i < n; ++i) {
    unsigned int bits;
    memcpy(&bits, &values[i], sizeof bits);
    printf(" %08x", bits);
  }
  printf("\n");
}

int main(int argc, char** argv) {
  float x[T * B * I], target[T * B * H], y[T * B * H], dy[T * B * H], dx[T * B * I];
  float h[B * H], c[B * H];
  float *p[parts], *d[parts], *velocity[parts], *mean[parts], *square[parts];
  void* gradients[parts];
  void *tape, *forward, *backward, *packed, *step;
  bptt_desc desc;
  bptt_sizes bytes;
  bptt_weights weights;
  bptt_inputs inputs;
  bptt_outputs outputs;
  bptt_cotangents cotangents;
  bptt_gradients to;
  int i, k, update;

  if (argc > 1) check(bptt_set_isa(argv[1]));
  memset(&desc, 0, sizeof desc);
  desc.struct_size = sizeof desc;
  desc.cell = "lstm";
  desc.train = 1;
  desc.steps = T, desc.batch = B, desc.input_size = I, desc.hidden_size = H;
  bytes.struct_size = sizeof bytes;
  check(bptt_query(&desc, &bytes));
  tape = memory(bytes.tape);
  forward = memory(bytes.forward_workspace);
  backward = memory(bytes.backward_workspace);
  packed = memory(bytes.packed);
  step = memory(bytes.step_workspace);

  numbers(x, T * B * I);
  numbers(target, T * B * H);
  for (k = 0; k < parts; ++k) {
    p[k] = memory(sizes[k] * sizeof(float));
    gradients[k] = d[k] = memory(sizes[k] * sizeof(float));
    velocity[k] = zeros(sizes[k]), mean[k] = zeros(sizes[k]), square[k] = zeros(sizes[k]);
    numbers(p[k], sizes[k]);
  }
  memset(&weights, 0, sizeof weights);
  weights.w_ih = p[0], weights.w_hh = p[1], weights.b_ih = p[2], weights.b_hh = p[3];
  memset(&inputs, 0, sizeof inputs);
  inputs.x = x;
  outputs.y = y, outputs.h_n = h, outputs.c_n = c;
  memset(&cotangents, 0, sizeof cotangents);
  cotangents.dy = dy;
  memset(&to, 0, sizeof to);
  to.dx = dx, to.dw_ih = d[0], to.dw_hh = d[1], to.db_ih = d[2], to.db_hh = d[3];

  for (update = 1; update <= updates; ++update) {
    double loss = 0, norm;
    check(bptt_forward(&desc, &weights, &inputs, &outputs, tape, forward));
    for (i = 0; i < T * B * H; ++i) {
      dy[i] = y[i] - target[i];
      loss += 0.5 * dy[i] * dy[i];
    }
    check(bptt_backward(&desc, x, y, &cotangents, NULL, &to, tape, backward));
    check(bptt_clip_grad_norm(desc.dtype, parts, gradients, sizes, 1e6, &norm));
    printf("update %d loss %.17g norm %.17g\n", update, loss, norm);
    for (k = 0; k < parts; ++k)
      if (update <= updates / 2)
        check(bptt_adam(desc.dtype, sizes[k], p[k], d[k], mean[k], square[k], update, 0.05, 0.9,
                        0.999, 1e-8));
      else
        check(bptt_sgd(desc.dtype, sizes[k], p[k], d[k], velocity[k], 0.02, 0.5));
  }
  for (k = 0; k < parts; ++k) print(names[k], p[k], sizes[k]);

  /* What it predicts: all steps at once without a tape, and one by one from packed weights. */
  desc.train = 0;
  check(bptt_forward(&desc, &weights, &inputs, &outputs, NULL, forward));
  print("y", y, T * B * H);
  print("h_n", h, B * H);
  print("c_n", c, B * H);
  check(bptt_pack(&desc, &weights, packed));
  memset(&weights, 0, sizeof weights);
  weights.packed = packed;
  memset(h, 0, sizeof h);
  memset(c, 0, sizeof c);
  for (i = 0; i < T; ++i) {
    check(bptt_step(&desc, &weights, x + i * B * I, h, c, step));
    memcpy(y + i * B * H, h, sizeof h);
  }
  print("y", y, T * B * H);
  print("h_n", h, B * H);
  print("c_n", c, B * H);
  return 0;
}
