/* SPDX-License-Identifier: MIT */
/* What hosts may do in a parallel_for: threads of their own, no threads, any order; and what they
 * may not: nothing at all, which must not hang or spoil anything either. */
#include <pthread.h>
#include <stdlib.h>

typedef void (*task_type)(void* argument, int index);

void in_order(void* context, int count, task_type task, void* argument) {
  int i;
  (void)context;
  for (i = 0; i < count; ++i) task(argument, i);
}

void last_first(void* context, int count, task_type task, void* argument) {
  (void)context;
  while (count > 0) task(argument, --count);
}

void not_at_all(void* context, int count, task_type task, void* argument) {
  (void)context, (void)count, (void)task, (void)argument;
}

struct one {
  task_type task;
  void* argument;
  int index;
};

static void* run(void* one) {
  struct one* o = one;
  o->task(o->argument, o->index);
  return NULL;
}

void on_threads(void* context, int count, task_type task, void* argument) {
  pthread_t* threads = malloc((size_t)count * sizeof *threads);
  struct one* ones = malloc((size_t)count * sizeof *ones);
  int i, running;
  (void)context;
  for (i = running = 0; threads && ones && i < count; ++i) {
    ones[i].task = task, ones[i].argument = argument, ones[i].index = i;
    if (pthread_create(&threads[running], NULL, run, &ones[i]) == 0)
      ++running;
    else
      run(&ones[i]);
  }
  while (running > 0) pthread_join(threads[--running], NULL);
  free(threads);
  free(ones);
}
