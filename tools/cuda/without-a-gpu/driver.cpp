// libcuda.so.1: the driver interface over the emulated device.
//
// Work runs on the thread that waits for it, under one lock (streams.hpp). A module has no code: its
// functions are found in the table of compiled kernels by name alone.

#include "work.hpp"

namespace emulated_driver {

int attribute(int which) {
  switch (which) {
    case 1: return 1024;                     // threads per block
    case 2: case 3: return 1024;             // block x, y
    case 4: return 64;                       // block z
    case 5: return 2147483647;               // grid x
    case 6: case 7: return 65535;            // grid y, z
    case 8: return kSharedDefault;           // shared memory per block
    case 9: return 65536;                    // constant memory
    case 10: return 32;                      // warp size
    case 12: case 82: return 65536;          // registers per block, per multiprocessor
    case 13: return 1410000;                 // clock, kHz
    case 16: return kMultiprocessors;
    case 36: return 1215000;                 // memory clock, kHz
    case 37: return 5120;                    // bus width
    case 38: return 40 << 20;                // second-level cache
    case 39: return 2048;                    // threads per multiprocessor
    case 41: return 1;                       // unified addressing
    case 75: return driver().capability / 10;
    case 76: return driver().capability % 10;
    case 81: return 167936;                  // shared memory per multiprocessor
    case 95: return 1;                       // cooperative launch
    case 97: return kSharedOptIn;            // shared memory per block, on request
    case 106: return 32;                     // blocks per multiprocessor
    case 111: return 1024;                   // shared memory the system keeps, per block
    case 115: return 1;                      // memory pools
    default: return 0;
  }
}

// As many blocks as shared memory and threads leave room for.
int resident_blocks(int block, size_t shared) {
  if (block <= 0 || block > 1024) return 0;
  int by_threads = 2048 / ((block + 31) / 32 * 32), by_shared = int(167936 / (shared + 1024));
  int n = by_threads < by_shared ? by_threads : by_shared;
  return n < 32 ? n : 32;
}

struct Config {  // CUlaunchConfig
  unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared;
  void *stream, *attributes;
  unsigned count;
};

struct Copy2D {  // CUDA_MEMCPY2D
  size_t from_x, from_y;
  unsigned from_type;
  const void *from_host;
  Pointer from_device;
  void *from_array;
  size_t from_pitch, to_x, to_y;
  unsigned to_type;
  void *to_host;
  Pointer to_device;
  void *to_array;
  size_t to_pitch, width, height;
};

}  // namespace emulated_driver
using namespace emulated_driver;

// Counts, for tests and for the other libraries of this device.
EXPORT void emulated_counts(uint64_t out[8]) {
  Driver &d = driver();
  Lock guard(d.lock);
  uint64_t all[8] = {d.launches, d.reads, d.read_bytes, d.syncs, d.writes, d.written_bytes,
                     d.memory.used_everywhere, d.memory.peak};
  memcpy(out, all, sizeof all);
}
EXPORT void emulated_reset_peak() {
  Driver &d = driver();
  Lock guard(d.lock);
  d.memory.peak = d.memory.used_everywhere;
}
// A launch of one of the other libraries. They stand on the runtime, which makes the context of the first device
// current on a thread that has none.
EXPORT int emulated_launch(Stream *stream, void (*run)(void *), void *data) {
  Driver &d = driver();
  if (!current) current = &d.context[0];
  Lock guard(d.lock);
  Target target;
  if (Result r = find_current(stream, target)) return r;
  d.launches++;
  add(target, 0, [=] { run(data); });
  return SUCCESS;
}
EXPORT void emulated_tally(const char *name, uint64_t bytes, uint64_t operations) {
  Driver &d = driver();
  Lock guard(d.lock);
  d.count(name, bytes, operations);
}
EXPORT int emulated_contains(const void *pointer, size_t bytes) {
  Driver &d = driver();
  Lock guard(d.lock);
  return d.memory.contains(uintptr_t(pointer), bytes);
}

// The driver and its devices.
EXPORT Result cuInit(unsigned) { return driver().devices ? SUCCESS : Result(100); }
EXPORT Result cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
EXPORT Result cuDeviceGetCount(int *count) { return *count = driver().devices, SUCCESS; }
EXPORT Result cuDeviceGet(int *device, int ordinal) {
  if (!valid_device(ordinal)) return INVALID_DEVICE;
  return *device = ordinal, SUCCESS;
}
EXPORT Result cuDeviceGetName(char *name, int length, int device) {
  if (!valid_device(device)) return INVALID_DEVICE;
  return snprintf(name, size_t(length), "emulated"), SUCCESS;
}
EXPORT Result cuDeviceGetUuid_v2(unsigned char *uuid, int device) {
  if (!valid_device(device)) return INVALID_DEVICE;
  memset(uuid, 0, 16);
  uuid[15] = (unsigned char)device;
  return SUCCESS;
}
EXPORT Result cuDeviceGetUuid(unsigned char *uuid, int device) { return cuDeviceGetUuid_v2(uuid, device); }
EXPORT Result cuDeviceTotalMem_v2(size_t *bytes, int device) {
  if (!valid_device(device)) return INVALID_DEVICE;
  return *bytes = driver().memory.total, SUCCESS;
}
EXPORT Result cuDeviceGetAttribute(int *value, int which, int device) {
  if (!valid_device(device)) return INVALID_DEVICE;
  return *value = attribute(which), SUCCESS;
}
EXPORT Result cuDeviceCanAccessPeer(int *can, int, int) { return *can = 1, SUCCESS; }
EXPORT Result cuCtxEnablePeerAccess(Context *, unsigned) { return SUCCESS; }
EXPORT Result cuDeviceGetPCIBusId(char *text, int length, int device) {
  return snprintf(text, size_t(length), "0000:%02x:00.0", device), SUCCESS;
}

// Contexts: one for each device.
EXPORT Result cuDevicePrimaryCtxRetain(Context **context, int device) {
  if (!valid_device(device)) return INVALID_DEVICE;
  driver().retained[device]++;
  return *context = &driver().context[device], SUCCESS;
}
EXPORT Result cuDevicePrimaryCtxRelease_v2(int device) {
  if (!valid_device(device)) return INVALID_DEVICE;
  if (driver().retained[device]-- > 0) return SUCCESS;
  return driver().retained[device]++, INVALID_CONTEXT;
}
EXPORT Result cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
  if (!valid_device(device)) return INVALID_DEVICE;
  return *flags = 0, *active = driver().retained[device] > 0, SUCCESS;
}
EXPORT Result cuCtxSetCurrent(Context *context) { return current = context, SUCCESS; }
EXPORT Result cuCtxGetCurrent(Context **context) { return *context = current, SUCCESS; }
thread_local std::vector<Context *> pushed;
EXPORT Result cuCtxPushCurrent_v2(Context *context) { return pushed.push_back(current), current = context, SUCCESS; }
EXPORT Result cuCtxPopCurrent_v2(Context **context) {
  if (pushed.empty()) return INVALID_CONTEXT;
  if (context) *context = current;
  current = pushed.back();
  pushed.pop_back();
  return SUCCESS;
}
EXPORT Result cuCtxGetDevice(int *device) {
  if (!current) return INVALID_CONTEXT;
  return *device = current->device, SUCCESS;
}
EXPORT Result cuCtxSynchronize() { return synchronize(); }
EXPORT Result cuCtxGetApiVersion(Context *, unsigned *version) { return *version = 13000, SUCCESS; }
EXPORT Result cuCtxSetFlags(unsigned) { return SUCCESS; }
EXPORT Result cuCtxSetLimit(int, size_t) { return SUCCESS; }
EXPORT Result cuCtxGetLimit(size_t *value, int) { return *value = 0, SUCCESS; }
EXPORT Result cuCtxSetCacheConfig(int) { return SUCCESS; }
EXPORT Result cuCtxGetCacheConfig(int *config) { return *config = 0, SUCCESS; }
EXPORT Result cuCtxGetStreamPriorityRange(int *least, int *greatest) { return *least = 0, *greatest = -5, SUCCESS; }

// Streams and events.
EXPORT Result cuStreamCreate(Stream **stream, unsigned flags) {
  Driver &d = driver();
  if (!current) return INVALID_CONTEXT;
  Lock guard(d.lock);
  *stream = new Stream{current, d.streams.create(current->device, !(flags & 1))};
  d.created.insert(*stream);
  return SUCCESS;
}
EXPORT Result cuStreamCreateWithPriority(Stream **stream, unsigned flags, int) { return cuStreamCreate(stream, flags); }
EXPORT Result cuStreamDestroy_v2(Stream *stream) {
  Driver &d = driver();
  Lock guard(d.lock);
  if (!d.created.erase(stream)) return INVALID_HANDLE;  // the default streams among them
  d.streams.run(*stream->queue);
  return delete stream, SUCCESS;
}
EXPORT Result cuStreamSynchronize(Stream *stream) { return synchronize(stream); }
EXPORT Result cuStreamQuery(Stream *stream) { return query(stream); }
EXPORT Result cuStreamWaitEvent(Stream *stream, Event *event, unsigned) { return wait_event(stream, event); }
EXPORT Result cuStreamIsCapturing(Stream *, int *status) { return *status = 0, SUCCESS; }
EXPORT Result cuStreamGetPriority(Stream *, int *priority) { return *priority = 0, SUCCESS; }
EXPORT Result cuStreamGetCtx(Stream *stream, Context **context) {
  Lock guard(driver().lock);
  Target target;
  if (Result r = find(stream, target)) return r;
  return *context = target.context, SUCCESS;
}
EXPORT Result cuStreamAttachMemAsync(Stream *, Pointer, size_t, unsigned) { return SUCCESS; }
EXPORT Result cuLaunchHostFunc(Stream *stream, void (*function)(void *), void *data) {
  Lock guard(driver().lock);
  Target target;
  if (Result r = find(stream, target)) return r;
  add(target, 0, [=] { function(data); });
  return SUCCESS;
}
EXPORT Result cuEventCreate(Event **event, unsigned) {
  if (!current) return INVALID_CONTEXT;
  return *event = new Event, SUCCESS;
}
EXPORT Result cuEventDestroy_v2(Event *event) { return delete event, SUCCESS; }
EXPORT Result cuEventRecord(Event *event, Stream *stream) { return record(event, stream); }
EXPORT Result cuEventQuery(Event *event) { return query(event); }
EXPORT Result cuEventSynchronize(Event *event) { return synchronize(event); }
EXPORT Result cuEventElapsedTime(float *milliseconds, Event *start, Event *end) {
  Lock guard(driver().lock);
  if (!start->record || !end->record) return INVALID_HANDLE;
  if (!has_happened(*start) || !has_happened(*end)) return NOT_READY;
  *milliseconds = std::chrono::duration<float, std::milli>(*end->record->time - *start->record->time).count();
  return SUCCESS;
}
EXPORT Result cuEventElapsedTime_v2(float *milliseconds, Event *start, Event *end) {
  return cuEventElapsedTime(milliseconds, start, end);
}

// Memory.
EXPORT Result cuMemGetInfo_v2(size_t *unused, size_t *total) {
  Driver &d = driver();
  if (!current) return INVALID_CONTEXT;
  Lock guard(d.lock);
  *total = d.memory.total;
  *unused = d.memory.total - d.memory.used[current->device];
  return SUCCESS;
}
EXPORT Result cuMemAlloc_v2(Pointer *out, size_t bytes) { return bytes ? allocate_on(out, bytes, nullptr) : INVALID_VALUE; }
EXPORT Result cuMemAllocAsync(Pointer *out, size_t bytes, Stream *stream) { return allocate_on(out, bytes, stream); }
EXPORT Result cuMemAllocFromPoolAsync(Pointer *out, size_t bytes, void *, Stream *stream) { return allocate_on(out, bytes, stream); }
EXPORT Result cuMemAllocManaged(Pointer *out, size_t bytes, unsigned) { return cuMemAlloc_v2(out, bytes); }
EXPORT Result cuMemFree_v2(Pointer pointer) {
  Driver &d = driver();
  if (!current) return INVALID_CONTEXT;
  Lock guard(d.lock);
  emulator::Freed freed;
  if (!pointer) return SUCCESS;
  if (!d.memory.take(uintptr_t(pointer), freed)) return INVALID_VALUE;
  d.streams.run_all(current->device);
  return d.streams.free_now(freed), SUCCESS;
}
EXPORT Result cuMemFreeAsync(Pointer pointer, Stream *stream) { return free_on(pointer, stream); }
EXPORT Result cuMemHostAlloc(void **out, size_t bytes, unsigned) {
  Driver &d = driver();
  if (!current) return INVALID_CONTEXT;
  Lock guard(d.lock);
  *out = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  if (*out) d.pinned[uintptr_t(*out)] = bytes;
  return *out || !bytes ? SUCCESS : OUT_OF_MEMORY;
}
EXPORT Result cuMemAllocHost_v2(void **out, size_t bytes) { return cuMemHostAlloc(out, bytes, 0); }
EXPORT Result cuMemFreeHost(void *pointer) {
  Driver &d = driver();
  if (!current) return INVALID_CONTEXT;
  Lock guard(d.lock);
  if (!d.pinned.erase(uintptr_t(pointer))) return INVALID_VALUE;
  d.streams.run_all(current->device);
  return free(pointer), SUCCESS;
}
EXPORT Result cuMemHostRegister_v2(void *, size_t, unsigned) { return SUCCESS; }
EXPORT Result cuMemHostUnregister(void *) { return SUCCESS; }
EXPORT Result cuMemPrefetchAsync_v2(Pointer, size_t, uint64_t, unsigned, Stream *) { return SUCCESS; }
EXPORT Result cuMemAdvise_v2(Pointer, size_t, int, uint64_t) { return SUCCESS; }
EXPORT Result cuPointerGetAttribute(void *data, int which, Pointer pointer) {
  Driver &d = driver();
  Lock guard(d.lock);
  if (!d.memory.contains(uintptr_t(pointer), 1)) return INVALID_VALUE;
  auto &entry = *std::prev(d.memory.live.upper_bound(uintptr_t(pointer)));
  switch (which) {
    case 2: return *static_cast<unsigned *>(data) = 2, SUCCESS;  // memory type: device
    case 3: return *static_cast<Pointer *>(data) = pointer, SUCCESS;
    case 9: return *static_cast<int *>(data) = entry.second.device, SUCCESS;
    default: return NOT_SUPPORTED;
  }
}

// Pools: handles without meaning; what they report is the device's own count.
EXPORT Result cuDeviceGetDefaultMemPool(void **pool, int device) {
  if (!valid_device(device)) return INVALID_DEVICE;
  return *pool = &driver().context[device], SUCCESS;
}
EXPORT Result cuDeviceGetMemPool(void **pool, int device) { return cuDeviceGetDefaultMemPool(pool, device); }
EXPORT Result cuDeviceSetMemPool(int, void *) { return SUCCESS; }
EXPORT Result cuMemPoolCreate(void **pool, const void *) { return *pool = &driver().context[0], SUCCESS; }
EXPORT Result cuMemPoolDestroy(void *) { return SUCCESS; }
EXPORT Result cuMemPoolTrimTo(void *, size_t) { return SUCCESS; }
EXPORT Result cuMemPoolSetAttribute(void *, int which, void *) {
  if (which == 6 || which == 8) emulated_reset_peak();  // reserved, used: writing begins the peak anew
  return SUCCESS;
}
EXPORT Result cuMemPoolGetAttribute(void *, int which, void *value) {
  Driver &d = driver();
  Lock guard(d.lock);
  if (which < 4) *static_cast<int *>(value) = 1;  // the reuse policies are ints
  else *static_cast<uint64_t *>(value) = which == 6 || which == 8 ? d.memory.peak : d.memory.used_everywhere;
  return SUCCESS;
}

// Copies and fills, with a stream and without.
#define COPY(name, To, From, way)                                                                            \
  EXPORT Result name##_v2(To to, From from, size_t n) { return copy((void *)to, (const void *)from, n, way, nullptr); } \
  EXPORT Result name##Async_v2(To to, From from, size_t n, Stream *s) { return copy((void *)to, (const void *)from, n, way, s); }
COPY(cuMemcpyHtoD, Pointer, const void *, Way::to_device)
COPY(cuMemcpyDtoH, void *, Pointer, Way::to_host)
COPY(cuMemcpyDtoD, Pointer, Pointer, Way::on_device)
#undef COPY
EXPORT Result cuMemcpyPeer(Pointer to, Context *, Pointer from, Context *, size_t n) {
  return copy((void *)to, (const void *)from, n, Way::on_device, nullptr);
}
EXPORT Result cuMemcpyPeerAsync(Pointer to, Context *, Pointer from, Context *, size_t n, Stream *stream) {
  return copy((void *)to, (const void *)from, n, Way::on_device, stream);
}
EXPORT Result cuMemcpy2DAsync_v2(const Copy2D *c, Stream *stream) {
  bool from_host = c->from_type == 1, to_host = c->to_type == 1;
  if (from_host && to_host) return NOT_SUPPORTED;
  auto *from = from_host ? static_cast<const char *>(c->from_host) : reinterpret_cast<const char *>(c->from_device);
  auto *to = to_host ? static_cast<char *>(c->to_host) : reinterpret_cast<char *>(c->to_device);
  for (size_t row = 0; row < c->height; row++) {
    Result r = copy(to + (c->to_y + row) * c->to_pitch + c->to_x, from + (c->from_y + row) * c->from_pitch + c->from_x,
                    c->width, from_host ? Way::to_device : to_host ? Way::to_host : Way::on_device, stream);
    if (r) return r;
  }
  return SUCCESS;
}
EXPORT Result cuMemcpy2D_v2(const Copy2D *c) { return cuMemcpy2DAsync_v2(c, nullptr); }
#define FILL(name, T)                                                                     \
  EXPORT Result name##_v2(Pointer to, T value, size_t n) { return fill<T>(to, value, n, nullptr); } \
  EXPORT Result name##Async(Pointer to, T value, size_t n, Stream *s) { return fill<T>(to, value, n, s); }
FILL(cuMemsetD8, unsigned char)
FILL(cuMemsetD16, unsigned short)
FILL(cuMemsetD32, unsigned)
#undef FILL

// Modules and functions.
EXPORT Result cuModuleLoadData(Module **module, const void *) {
  if (!current) return INVALID_CONTEXT;
  return *module = new Module, SUCCESS;
}
EXPORT Result cuModuleLoadDataEx(Module **module, const void *image, unsigned, void *, void *) {
  return cuModuleLoadData(module, image);
}
EXPORT Result cuModuleLoad(Module **module, const char *) { return cuModuleLoadData(module, nullptr); }
EXPORT Result cuModuleUnload(Module *module) { return delete module, SUCCESS; }
EXPORT Result cuModuleGetGlobal_v2(Pointer *, size_t *, Module *, const char *name) {
  fprintf(stderr, "emulated device: no global %s: globals are not emulated\n", name);
  return NOT_FOUND;
}
EXPORT Result cuModuleGetFunction(Function **function, Module *, const char *name) {
  Driver &d = driver();
  if (!current) return INVALID_CONTEXT;
  Lock guard(d.lock);
  auto found = emulator::kernels().find(name);
  if (found == emulator::kernels().end()) {
    fprintf(stderr, "emulated device: no kernel is named %s\n", name);
    return NOT_FOUND;
  }
  auto &slot = d.functions[name];
  if (!slot) slot.reset(new Function{found->second, kSharedDefault});
  return *function = slot.get(), SUCCESS;
}
EXPORT Result cuFuncGetName(const char **name, Function *f) { return *name = f->kernel->name, SUCCESS; }
EXPORT Result cuFuncSetAttribute(Function *f, int which, int value) {
  if (!current) return INVALID_CONTEXT;
  if (which != 8) return SUCCESS;
  if (value < 0 || value > kSharedOptIn) return INVALID_VALUE;
  return f->max_dynamic_shared = value, SUCCESS;
}
EXPORT Result cuFuncGetAttribute(int *value, int which, Function *f) {
  switch (which) {
    case 0: *value = 1024; break;
    case 4: *value = 32; break;
    case 5: case 6: *value = driver().capability; break;
    case 8: *value = f->max_dynamic_shared; break;
    default: *value = 0;
  }
  return SUCCESS;
}
EXPORT Result cuFuncSetCacheConfig(Function *, int) { return SUCCESS; }
EXPORT Result cuFuncLoad(Function *) { return SUCCESS; }

// Occupancy: from block size and dynamic shared memory alone.
EXPORT Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, Function *, int block, size_t shared) {
  return *blocks = resident_blocks(block, shared), SUCCESS;
}
EXPORT Result cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, Function *, int block, size_t shared, unsigned) {
  return *blocks = resident_blocks(block, shared), SUCCESS;
}
EXPORT Result cuOccupancyMaxPotentialBlockSize(int *grid, int *block, Function *, size_t (*)(int), size_t, int limit) {
  *block = limit > 0 && limit < 1024 ? limit : 1024;
  return *grid = kMultiprocessors * 2, SUCCESS;
}
EXPORT Result cuOccupancyMaxPotentialBlockSizeWithFlags(int *grid, int *block, Function *f, size_t (*bytes)(int),
                                                        size_t shared, int limit, unsigned) {
  return cuOccupancyMaxPotentialBlockSize(grid, block, f, bytes, shared, limit);
}
EXPORT Result cuOccupancyAvailableDynamicSMemPerBlock(size_t *bytes, Function *, int blocks, int) {
  size_t share = blocks > 0 ? size_t(167936 / blocks) : 0;
  *bytes = share > 1024 ? share - 1024 : 0;
  if (*bytes > size_t(kSharedOptIn)) *bytes = kSharedOptIn;
  return SUCCESS;
}

// Launches.
EXPORT Result cuLaunchKernel(Function *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                             unsigned shared, Stream *stream, void **params, void **extra) {
  return launch(f, {gx, gy, gz}, {bx, by, bz}, shared, stream, params, extra);
}
EXPORT Result cuLaunchKernelEx(const Config *c, Function *f, void **params, void **extra) {
  return launch(f, {c->grid_x, c->grid_y, c->grid_z}, {c->block_x, c->block_y, c->block_z}, c->shared,
                static_cast<Stream *>(c->stream), params, extra);
}
EXPORT Result cuLaunchCooperativeKernel(Function *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                                        unsigned bz, unsigned shared, Stream *stream, void **params) {
  return launch(f, {gx, gy, gz}, {bx, by, bz}, shared, stream, params, nullptr);
}

// Errors by name.
static const char *error_name(int code) {
  switch (code) {
    case 0: return "CUDA_SUCCESS";
    case 1: return "CUDA_ERROR_INVALID_VALUE";
    case 2: return "CUDA_ERROR_OUT_OF_MEMORY";
    case 3: return "CUDA_ERROR_NOT_INITIALIZED";
    case 100: return "CUDA_ERROR_NO_DEVICE";
    case 101: return "CUDA_ERROR_INVALID_DEVICE";
    case 201: return "CUDA_ERROR_INVALID_CONTEXT";
    case 400: return "CUDA_ERROR_INVALID_HANDLE";
    case 500: return "CUDA_ERROR_NOT_FOUND";
    case 600: return "CUDA_ERROR_NOT_READY";
    case 701: return "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES";
    case 801: return "CUDA_ERROR_NOT_SUPPORTED";
    default: return "CUDA_ERROR_UNKNOWN";
  }
}
EXPORT Result cuGetErrorName(int code, const char **text) { return *text = error_name(code), SUCCESS; }
EXPORT Result cuGetErrorString(int code, const char **text) {
  *text = code == 2 ? "out of memory" : code == 500 ? "named symbol not found" : code == 1 ? "invalid argument" : error_name(code);
  return SUCCESS;
}
EXPORT Result cuProfilerStart() { return SUCCESS; }
EXPORT Result cuProfilerStop() { return SUCCESS; }
