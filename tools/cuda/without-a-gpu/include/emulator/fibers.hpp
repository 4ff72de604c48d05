// The threads of one block, run on one CPU thread.
//
// A device thread runs until it returns or has to wait (a barrier, a shuffle). A stack is
// only given up when its thread waits; a thread that never waits leaves its stack to the
// next thread, so that elementwise kernels cost a function call per thread and no more.
//
// One launch runs at a time (the driver side holds a lock), hence the plain globals.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "vectors.hpp"

inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace emulator {

constexpr unsigned kMaxThreads = 1024, kWarp = 32, kMaxGroups = 8;
constexpr size_t kStackBytes = 256 << 10, kPage = 4096;
constexpr unsigned char kPoison = 0xFF;  // NaN in every float format, -1 in integers
constexpr unsigned char kGuard = 0xA5;
constexpr size_t kGuardBytes = 256, kMaxDynamicShared = 256 << 10, kMaxStaticShared = 48 << 10;

enum class State : uint8_t { running, ready, at_barrier, in_warp, done };

struct Thread {
  void *stack_pointer;
  char *stack;
  uint3 index;
  State state;
};

struct Warp;
// What happens once all lanes of a mask have arrived; also tells one operation from another.
struct Collective {
  const char *name;
  void (*complete)(Warp &, uint32_t lanes);
};

// Lanes of a warp that wait for each other: those that named the same mask.
struct Group {
  uint32_t mask, arrived;
  const Collective *operation;
};

struct Warp {
  uint32_t alive;
  unsigned groups;
  Group group[kMaxGroups];
  uint64_t value[kWarp], reply[kWarp];
  int source[kWarp];
};

struct Block {
  const char *kernel;  // nullptr: none runs
  void (*body)(void **);
  void **params;
  unsigned size, started, finished;
  const unsigned *order;  // nullptr: ascending
  unsigned current;
  char *stack;  // the stack that runs now
  void *main_stack_pointer;

  unsigned ready[kMaxThreads], ready_head, ready_count;
  unsigned waiting[kMaxThreads], at_barrier;
  int predicates, barrier_predicates, barrier_arrived;

  uint64_t serial;  // counts blocks: shared variables are poisoned once in each
  size_t static_shared;
  Thread thread[kMaxThreads];
  Warp warp[kMaxThreads / kWarp];
  char *free_stack[kMaxThreads + 1];
  unsigned free_stacks;
};
inline Block block;
alignas(1024) inline char dynamic_shared[kMaxDynamicShared + kGuardBytes];

[[noreturn]] inline void fail(const char *what) {
  fprintf(stderr, "emulated device: kernel %s, block (%u,%u,%u), thread (%u,%u,%u): %s\n",
          block.kernel, blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z, what);
  block.kernel = nullptr;  // it has been named
  abort();
}

// Saves the registers a call must keep, on the old stack, and goes on on the new one.
// noipa: the compiler must not conclude from the body that other registers survive.
__attribute__((naked, noinline, noipa)) inline void switch_stack(void ** /*save*/, void * /*load*/) {
  asm("pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
      "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
      "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n");
}

void worker();

// A stack whose first switch enters worker(). The page below it is protected, so that an
// overflow faults rather than reaching the neighbour.
inline void *fresh_stack() {
  Block &b = block;
  char *stack;
  if (b.free_stacks) {
    stack = b.free_stack[--b.free_stacks];
  } else {
    stack = static_cast<char *>(mmap(nullptr, kStackBytes + kPage, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (stack == MAP_FAILED) fail("no memory for a stack");
    mprotect(stack, kPage, PROT_NONE);
  }
  b.stack = stack;
  // Not all tops at one offset in their pages: they would share a few lines of the cache.
  size_t offset = (reinterpret_cast<uintptr_t>(stack) / kStackBytes * 320) % kPage;
  void **top = reinterpret_cast<void **>(stack + kPage + kStackBytes - offset);
  *--top = nullptr;  // worker's return address: it never returns
  *--top = reinterpret_cast<void *>(&worker);
  for (int i = 0; i < 6; i++) *--top = nullptr;
  return top;
}

[[noreturn]] __attribute__((noinline, cold)) inline void deadlock() {
  Block &b = block;
  fprintf(stderr, "emulated device: kernel %s, block (%u,%u,%u): no thread can go on (%u of %u returned)\n",
          b.kernel, blockIdx.x, blockIdx.y, blockIdx.z, b.finished, b.size);
  fprintf(stderr, "  %u threads wait at a barrier of the block", b.at_barrier);
  if (b.at_barrier) fprintf(stderr, ", the first of them thread %u", b.waiting[0]);
  fputc('\n', stderr);
  for (unsigned w = 0; w * kWarp < b.size; w++)
    for (unsigned g = 0; g < b.warp[w].groups; g++) {
      const Group &group = b.warp[w].group[g];
      fprintf(stderr, "  warp %u: %s, mask %08x, arrived %08x, still running %08x\n", w,
              group.operation->name, group.mask, group.arrived, b.warp[w].alive);
    }
  b.kernel = nullptr;  // it has been named
  abort();
}

inline void push_ready(unsigned t) {
  Block &b = block;
  b.thread[t].state = State::ready;
  b.ready[(b.ready_head + b.ready_count++) % kMaxThreads] = t;
}

inline void *pop_ready() {
  Block &b = block;
  unsigned t = b.ready[b.ready_head];
  b.ready_head = (b.ready_head + 1) % kMaxThreads;
  b.ready_count--;
  Thread &thread = b.thread[t];
  thread.state = State::running;
  b.current = t;
  b.stack = thread.stack;
  threadIdx = thread.index;
  return thread.stack_pointer;
}

// The current thread, whose state says what it waits for, gives way.
inline void wait() {
  Block &b = block;
  Thread &me = b.thread[b.current];
  me.stack = b.stack;
  void *next;
  if (b.ready_count) next = pop_ready();
  else if (b.started < b.size) next = fresh_stack();
  else deadlock();
  switch_stack(&me.stack_pointer, next);
}

inline void release_barrier() {
  Block &b = block;
  b.barrier_predicates = b.predicates;
  b.barrier_arrived = b.at_barrier;
  b.predicates = 0;
  unsigned n = b.at_barrier;
  b.at_barrier = 0;
  for (unsigned i = 0; i < n; i++)
    if (b.waiting[i] != b.current) push_ready(b.waiting[i]);  // the last to arrive just goes on
}

// A thread that has returned counts as arrived.
inline void barrier(int predicate) {
  Block &b = block;
  b.predicates += predicate != 0;
  b.waiting[b.at_barrier++] = b.current;
  if (b.at_barrier + b.finished == b.size) return release_barrier();
  b.thread[b.current].state = State::at_barrier;
  wait();
}

inline void complete_group(unsigned w, unsigned g) {
  Block &b = block;
  Warp &warp = b.warp[w];
  Group group = warp.group[g];
  warp.group[g] = warp.group[--warp.groups];
  group.operation->complete(warp, group.arrived);
  for (uint32_t left = group.arrived; left; left &= left - 1) {
    unsigned t = w * kWarp + __builtin_ctz(left);
    if (b.thread[t].state == State::in_warp) push_ready(t);
  }
}

// The current lane joins the others of `mask` in an operation and gets its reply.
inline uint64_t collective(const Collective &operation, uint32_t mask, uint64_t value, int source = 0) {
  Block &b = block;
  unsigned w = b.current / kWarp, lane = b.current % kWarp;
  Warp &warp = b.warp[w];
  uint32_t bit = 1u << lane;
  if (!(mask & bit)) fail("a lane calls a warp operation whose mask does not name it");
  warp.value[lane] = value;
  warp.source[lane] = source;
  unsigned g = 0;
  while (g < warp.groups && warp.group[g].mask != mask) g++;
  if (g == warp.groups) {
    if (g == kMaxGroups) fail("too many groups of lanes wait in one warp");
    warp.group[warp.groups++] = {mask, 0, &operation};
  } else if (warp.group[g].operation != &operation) {
    fprintf(stderr, "emulated device: %s meets %s\n", operation.name, warp.group[g].operation->name);
    fail("lanes of one mask are at different warp operations");
  }
  warp.group[g].arrived |= bit;
  if ((warp.alive & mask & ~warp.group[g].arrived) == 0) {
    complete_group(w, g);
  } else {
    b.thread[b.current].state = State::in_warp;
    wait();
  }
  return warp.reply[lane];
}

inline void finish_thread() {
  Block &b = block;
  b.finished++;
  b.thread[b.current].state = State::done;
  Warp &warp = b.warp[b.current / kWarp];
  warp.alive &= ~(1u << b.current % kWarp);
  for (unsigned g = 0; g < warp.groups;) {
    if ((warp.alive & warp.group[g].mask & ~warp.group[g].arrived) == 0) complete_group(b.current / kWarp, g);
    else g++;
  }
  if (b.at_barrier && b.at_barrier + b.finished == b.size) release_barrier();
}

inline void begin_thread() {
  Block &b = block;
  unsigned t = b.order ? b.order[b.started] : b.started;
  b.started++;
  b.current = t;
  unsigned row = t < blockDim.x ? 0 : t / blockDim.x;
  threadIdx = {t - row * blockDim.x, 0, 0};
  if (row) threadIdx.y = row % blockDim.y, threadIdx.z = row / blockDim.y;
  b.thread[t].index = threadIdx;
  b.thread[t].state = State::running;
}

// What a stack does: threads that have not begun yet, until another waits to go on.
inline void worker() {
  Block &b = block;
  while (b.started < b.size && !b.ready_count) {
    begin_thread();
    b.body(b.params);
    finish_thread();
  }
  b.free_stack[b.free_stacks++] = b.stack;
  void *abandoned;
  if (b.ready_count) switch_stack(&abandoned, pop_ready());
  if (b.finished != b.size) deadlock();
  switch_stack(&abandoned, b.main_stack_pointer);
  __builtin_unreachable();
}

inline void run_block(uint3 index, size_t dynamic_bytes) {
  Block &b = block;
  blockIdx = index;
  b.serial++;
  b.started = b.finished = b.ready_head = b.ready_count = b.at_barrier = 0;
  b.predicates = 0;
  b.static_shared = 0;
  for (unsigned w = 0; w * kWarp < b.size; w++) {
    unsigned lanes = b.size - w * kWarp;
    b.warp[w].alive = lanes >= kWarp ? ~0u : (1u << lanes) - 1;
    b.warp[w].groups = 0;
  }
  if (dynamic_bytes) {
    memset(dynamic_shared, kPoison, dynamic_bytes);
    memset(dynamic_shared + dynamic_bytes, kGuard, kGuardBytes);
  }
  switch_stack(&b.main_stack_pointer, fresh_stack());
  if (dynamic_bytes)
    for (size_t i = 0; i < kGuardBytes; i++)
      if (static_cast<unsigned char>(dynamic_shared[dynamic_bytes + i]) != kGuard)
        fail("a thread wrote behind the dynamic shared memory of the launch");
}

// translate.py puts a call of this behind each `__shared__` variable: the first thread of
// the block that comes there poisons the variable. `serial` is the call's own.
inline void enter_shared(void *variable, size_t bytes, uint64_t &serial) {
  Block &b = block;
  if (serial == b.serial) return;
  serial = b.serial;
  memset(variable, kPoison, bytes);
  b.static_shared += bytes;
  if (b.static_shared > kMaxStaticShared) fail("more than 48 KiB of static shared memory");
}

}  // namespace emulator
