// CUDA C on the host. The threads of a block are fibers, which take turns at barriers and shuffles.
//
// Beside the numbers it shows: barriers that not all threads reach (1 is returned), and results that depend on the
// order of threads and blocks, since these run in order, in reverse and shuffled, with shared memory full of NaN.
#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#ifdef __SSE__
#include <xmmintrin.h>
#define FLUSH_TO_ZERO(f) _mm_setcsr((_mm_getcsr() & ~0x8040u) | ((f) ? 0x8040u : 0))
#else
#define FLUSH_TO_ZERO(f)
#endif
struct dim3 { unsigned x, y, z; };
static dim3 threadIdx, blockIdx, blockDim, gridDim;
#define __global__
#define __device__ static inline
#define __restrict__
#define __shared__ static __attribute__((section("shared_memory")))
#define __launch_bounds__(...)
extern "C" char __start_shared_memory[] __attribute__((weak)), __stop_shared_memory[] __attribute__((weak));

enum State { RUN, WARP, BLOCK, DONE };
struct Fiber { ucontext_t context; jmp_buf jump; State state; bool started; };
static Fiber fibers[1024], *now;
static char stacks[1024][16384] __attribute__((aligned(64)));
static jmp_buf scheduler;
static void (*body)();
static char slots[1024][8];

static void wait(State state) {
  now->state = state;
  if (!_setjmp(now->jump)) _longjmp(scheduler, 1);
}
static void enter() { for (;;) { body(); wait(DONE); } }
static void resume(unsigned t) {
  now = &fibers[t];
  threadIdx.x = t;
  if (_setjmp(scheduler)) return;
  if (now->started) _longjmp(now->jump, 1);
  now->started = true;
  getcontext(&now->context);
  now->context.uc_stack.ss_sp = stacks[t];
  now->context.uc_stack.ss_size = sizeof stacks[t];
  makecontext(&now->context, enter, 0);
  setcontext(&now->context);
}

static int block(unsigned threads, const unsigned *order) {
  for (unsigned t = 0; t < threads; t++) fibers[t].state = RUN;
  for (;;) {
    bool moved = false;
    for (unsigned k = 0; k < threads; k++)
      if (fibers[order[k]].state == RUN) { moved = true; resume(order[k]); }
    unsigned done = 0, blocked = 0, freed = 0;
    for (unsigned w = 0; w < threads; w += 32) {  // a warp goes on when all of it waits
      unsigned end = w + 32 < threads ? w + 32 : threads, waiting = 0;
      for (unsigned t = w; t < end; t++) waiting += fibers[t].state == WARP;
      if (waiting == end - w) for (unsigned t = w; t < end; t++) { fibers[t].state = RUN; freed++; }
    }
    for (unsigned t = 0; t < threads; t++) { done += fibers[t].state == DONE; blocked += fibers[t].state == BLOCK; }
    if (done == threads) return 0;
    if (blocked == threads) { for (unsigned t = 0; t < threads; t++) fibers[t].state = RUN; continue; }
    if (!freed && !moved) {  // a barrier that some have not reached, or have left behind
      for (unsigned t = 0; t < threads; t++) fibers[t].started = false;
      return 1;
    }
  }
}

#define __threadfence()
static unsigned atomicInc(unsigned *p, unsigned most) {  // one thread at a time
  unsigned old = *p;
  *p = old >= most ? 0 : old + 1;
  return old;
}
#define __syncthreads() wait(BLOCK)
#define __syncwarp() wait(WARP)
template <class T> static T __shfl_xor_sync(unsigned, T x, unsigned d) {
  unsigned t = threadIdx.x;
  memcpy(slots[t], &x, sizeof x);
  wait(WARP);
  memcpy(&x, slots[t ^ d], sizeof x);
  wait(WARP);
  return x;
}

static void in_order(unsigned *order, unsigned n, unsigned seed) {
  for (unsigned i = 0; i < n; i++) order[i] = seed == 1 ? n - 1 - i : i;
  if (seed < 2) return;
  srand(seed);
  for (unsigned i = n; i-- > 1;) { unsigned j = rand() % (i + 1), k = order[i]; order[i] = order[j]; order[j] = k; }
}
static int launch(unsigned wide, unsigned high, unsigned threads, unsigned seed, bool barriers, void (*kernel)()) {
  unsigned grid = wide * high, order[1024], *blocks = (unsigned *)malloc(grid * sizeof *blocks), wrong = 0;
  FLUSH_TO_ZERO(true);  // as CuPy compiles for a GPU: of float32 there, here of float64, too
  gridDim = {wide, high, 1}; blockDim = {threads, 1, 1}; body = kernel;
  in_order(order, threads, seed);
  in_order(blocks, grid, seed);
  for (unsigned b = 0; b < grid && !wrong; b++) {
    blockIdx = {blocks[b] % wide, blocks[b] / wide, 0};
    if (__start_shared_memory) memset(__start_shared_memory, 0xff, __stop_shared_memory - __start_shared_memory);
    if (barriers) wrong = block(threads, order);
    else for (unsigned k = 0; k < threads; k++) { threadIdx = {order[k], 0, 0}; kernel(); }
  }
  FLUSH_TO_ZERO(false);
  free(blocks);
  return wrong;
}
