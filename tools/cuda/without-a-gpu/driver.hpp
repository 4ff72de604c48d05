// The driver's state: its devices, contexts, streams, and where the work of a call goes.
#pragma once

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>

#include "device.hpp"
#include "memory.hpp"
#include "streams.hpp"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace emulated_driver {

enum Result {
  SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, INVALID_DEVICE = 101,
  INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600,
  LAUNCH_OUT_OF_RESOURCES = 701, NOT_SUPPORTED = 801,
};

struct Context { int device; };
struct Stream {
  Context *context;
  std::shared_ptr<emulator::Queue> queue;
};
// What an event was last recorded behind.
struct Record {
  std::shared_ptr<emulator::Queue> queue;
  uint64_t number;
  std::shared_ptr<std::chrono::steady_clock::time_point> time;
};
struct Event { std::unique_ptr<Record> record; };
struct Module { int unused; };
struct Function { const emulator::Kernel *kernel; int max_dynamic_shared; };
using Pointer = unsigned long long;  // CUdeviceptr

constexpr int kSharedDefault = 48 << 10, kSharedOptIn = 166912, kMultiprocessors = 8;

long setting(const char *name, long fallback) {
  const char *text = getenv(name);
  return text && *text ? atol(text) : fallback;
}

// What the launches of one kernel amount to: the bytes of their operands, each counted once, and for matrix
// products the multiplications and additions.
struct Tally { uint64_t launches = 0, bytes = 0, operations = 0; };

struct Driver {
  std::mutex lock;
  emulator::Memory memory;
  emulator::Streams streams{memory};
  std::set<Stream *> created;
  std::map<uintptr_t, size_t> pinned;  // host memory that the device reads and writes by itself
  Context context[emulator::kMaxDevices];
  std::atomic<int> retained[emulator::kMaxDevices] = {};
  std::map<std::string, std::unique_ptr<Function>> functions;
  int devices = int(setting("EMULATED_DEVICES", 1));
  int capability = int(setting("EMULATED_CAPABILITY", 80));
  bool check = setting("EMULATED_CHECK", 0) != 0;
  bool trace = setting("EMULATED_TRACE", 0) != 0;
  bool tally = setting("EMULATED_TALLY", 0) != 0;
  std::map<std::string, Tally> tallies;
  std::atomic<uint64_t> launches{0}, reads{0}, read_bytes{0}, syncs{0}, writes{0}, written_bytes{0}, allocations{0};

  void count(const std::string &name, uint64_t bytes, uint64_t operations = 0) {
    if (!tally) return;
    Tally &all = tallies[name];
    all.launches++, all.bytes += bytes, all.operations += operations;
  }

  Driver() {
    if (devices > emulator::kMaxDevices) devices = emulator::kMaxDevices;
    for (int i = 0; i < emulator::kMaxDevices; i++) context[i].device = i;
  }
};

// Names the kernel that faults, and then lets the fault take its course.
struct sigaction previous[65];
void on_fault(int number, siginfo_t *, void *) {
  if (emulator::block.kernel) {
    char text[256];
    int n = snprintf(text, sizeof text, "emulated device: kernel %s, block (%u,%u,%u), thread (%u,%u,%u): a fault, signal %d\n",
                     emulator::block.kernel, blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z, number);
    if (write(2, text, size_t(n)) < 0) {}
  }
  sigaction(number, &previous[number], nullptr);
}

}  // namespace emulated_driver

// The checks compiled into our kernels abort, so that a debugger or the line above gets a chance.
EXPORT const char *__ubsan_default_options() { return "abort_on_error=1"; }

namespace emulated_driver {

// Never destroyed: Rust may still call in while the process ends.
Driver &driver() {
  static Driver *instance = [] {
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int number : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}) sigaction(number, &action, &previous[number]);
    return new Driver;
  }();
  return *instance;
}

thread_local Context *current = nullptr;

struct AtExit {
  ~AtExit() {
    if (!setting("EMULATED_STATS", 0)) return;
    Driver &d = driver();
    fprintf(stderr,
            "emulated device: %llu launches, %llu copies to the host (%llu bytes), %llu synchronisations, "
            "%llu copies to the device (%llu bytes), %llu allocations, %zu bytes in use, %zu at most\n",
            (unsigned long long)d.launches, (unsigned long long)d.reads, (unsigned long long)d.read_bytes,
            (unsigned long long)d.syncs, (unsigned long long)d.writes, (unsigned long long)d.written_bytes,
            (unsigned long long)d.allocations, d.memory.used_everywhere, d.memory.peak);
    for (auto &entry : d.tallies)
      fprintf(stderr, "emulated device: tally: %s: %llu launches, %llu bytes, %llu operations\n", entry.first.c_str(),
              (unsigned long long)entry.second.launches, (unsigned long long)entry.second.bytes,
              (unsigned long long)entry.second.operations);
  }
} at_exit;

bool valid_device(int device) { return device >= 0 && device < driver().devices; }

using Lock = std::lock_guard<std::mutex>;

// Where a call's work goes. The default stream's runs at once, after that of all streams that it waits for.
struct Target {
  Context *context = nullptr;
  std::shared_ptr<emulator::Queue> queue;  // null: the default stream
};

// The two default streams, the context's and the thread's, are those of the current context; the thread's is
// another one on every thread. A stream that was created brings its own context.
Result find(Stream *stream, Target &target) {
  Driver &d = driver();
  thread_local std::shared_ptr<emulator::Queue> own[emulator::kMaxDevices];
  if (uintptr_t(stream) > 2) {
    if (!d.created.count(stream)) return INVALID_HANDLE;
    target = {stream->context, stream->queue};
    return SUCCESS;
  }
  if (!current) return INVALID_CONTEXT;
  target.context = current;
  if (uintptr_t(stream) == 2) {
    auto &queue = own[current->device];
    if (!queue) queue = d.streams.create(current->device, true);
    target.queue = queue;
  }
  return SUCCESS;
}

// The same for work that runs in the current context.
Result find_current(Stream *stream, Target &target) {
  if (!current) return INVALID_CONTEXT;
  if (Result r = find(stream, target)) return r;
  return target.context == current ? SUCCESS : INVALID_HANDLE;
}

void wait_for(const Target &target) {
  Driver &d = driver();
  if (target.queue) d.streams.run(*target.queue);
  else d.streams.run_all(target.context->device, true);
}

void add(const Target &target, size_t held, std::function<void()> run) {
  if (target.queue) {
    driver().streams.add(*target.queue, held, std::move(run));
  } else {
    wait_for(target);
    run();
  }
}

}  // namespace emulated_driver
