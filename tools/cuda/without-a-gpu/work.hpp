// What the driver has a stream do: allocations and frees, copies and fills, events, launches.
#pragma once

#include "driver.hpp"

namespace emulated_driver {

Result allocate(Pointer *out, size_t bytes, const Target &target) {
  Driver &d = driver();
  void *memory = d.memory.allocate(bytes, target.context->device);
  if (!memory) return OUT_OF_MEMORY;
  *out = Pointer(uintptr_t(memory));
  d.allocations++;
  return SUCCESS;
}

Result allocate_on(Pointer *out, size_t bytes, Stream *stream) {
  Lock guard(driver().lock);
  Target target;
  if (Result r = find(stream, target)) return r;
  return allocate(out, bytes, target);
}

// In the order of the stream.
Result free_on(Pointer pointer, Stream *stream) {
  Driver &d = driver();
  Lock guard(d.lock);
  Target target;
  if (Result r = find(stream, target)) return r;
  emulator::Freed freed;
  if (!pointer) return SUCCESS;
  if (!d.memory.take(uintptr_t(pointer), freed)) return INVALID_VALUE;
  if (target.queue) {
    d.streams.free_later(*target.queue, freed);
  } else {
    wait_for(target);
    d.streams.free_now(freed);
  }
  return SUCCESS;
}

enum class Way { to_device, to_host, on_device };

bool pinned(const void *pointer, size_t bytes) {
  Driver &d = driver();
  auto after = d.pinned.upper_bound(uintptr_t(pointer));
  if (after == d.pinned.begin()) return false;
  auto found = std::prev(after);
  return uintptr_t(pointer) + bytes <= found->first + found->second;
}

Result copy(void *to, const void *from, size_t bytes, Way way, Stream *stream) {
  Driver &d = driver();
  Lock guard(d.lock);
  Target target;
  if (Result r = find_current(stream, target)) return r;
  bool to_ok = way == Way::to_host || d.memory.contains(uintptr_t(to), bytes);
  bool from_ok = way == Way::to_device || d.memory.contains(uintptr_t(from), bytes);
  if (!to_ok || !from_ok) {
    fprintf(stderr, "emulated device: a copy of %zu bytes leaves its allocation\n", bytes);
    return INVALID_VALUE;
  }
  if (way == Way::to_host) d.reads++, d.read_bytes += bytes;
  if (way == Way::to_device) d.writes++, d.written_bytes += bytes;
  if (way == Way::on_device) d.count("(copy on the device)", 2 * bytes);
  if (way == Way::to_host && !pinned(to, bytes)) {  // the call returns when all has arrived
    wait_for(target);
    memmove(to, from, bytes);
  } else if (way == Way::to_device && !pinned(from, bytes)) {  // the call has read all when it returns
    auto *begin = static_cast<const char *>(from);
    auto staged = std::make_shared<std::vector<char>>(begin, begin + bytes);
    add(target, bytes, [=] { memcpy(to, staged->data(), bytes); });
  } else {
    add(target, 0, [=] { memmove(to, from, bytes); });
  }
  return SUCCESS;
}

template <class T>
Result fill(Pointer to, T value, size_t count, Stream *stream) {
  Driver &d = driver();
  Lock guard(d.lock);
  Target target;
  if (Result r = find_current(stream, target)) return r;
  if (!d.memory.contains(uintptr_t(to), count * sizeof(T))) {
    fprintf(stderr, "emulated device: a fill of %zu bytes leaves its allocation\n", count * sizeof(T));
    return INVALID_VALUE;
  }
  d.count("(fill)", count * sizeof(T));
  add(target, 0, [=] {
    T *p = reinterpret_cast<T *>(to);
    for (size_t i = 0; i < count; i++) p[i] = value;
  });
  return SUCCESS;
}

Result synchronize() {
  Driver &d = driver();
  if (!current) return INVALID_CONTEXT;
  Lock guard(d.lock);
  d.syncs++;
  d.streams.run_all(current->device);
  return SUCCESS;
}

Result synchronize(Stream *stream) {
  Driver &d = driver();
  Lock guard(d.lock);
  Target target;
  if (Result r = find(stream, target)) return r;
  d.syncs++;
  wait_for(target);
  return SUCCESS;
}

Result record(Event *event, Stream *stream) {
  Driver &d = driver();
  Lock guard(d.lock);
  Target target;
  if (!event) return INVALID_HANDLE;
  if (Result r = find(stream, target)) return r;
  auto time = std::make_shared<std::chrono::steady_clock::time_point>();
  auto mark = [=] { *time = std::chrono::steady_clock::now(); };
  uint64_t number = 0;
  if (target.queue) number = d.streams.add(*target.queue, 0, mark);
  else add(target, 0, mark);
  event->record.reset(new Record{target.queue, number, time});
  return SUCCESS;
}

bool has_happened(const Event &event) {
  return !event.record || !event.record->queue || event.record->queue->has_run(event.record->number);
}

// The stream's further work comes after what the event was recorded behind.
Result wait_event(Stream *stream, Event *event) {
  Driver &d = driver();
  Lock guard(d.lock);
  Target target;
  if (!event) return INVALID_HANDLE;
  if (Result r = find(stream, target)) return r;
  if (has_happened(*event)) return SUCCESS;
  Record behind = *event->record;
  add(target, 0, [behind, &d] { d.streams.run_until(*behind.queue, behind.number); });
  return SUCCESS;
}

Result synchronize(Event *event) {
  Driver &d = driver();
  if (!event) return INVALID_HANDLE;
  Lock guard(d.lock);
  d.syncs++;
  if (!has_happened(*event)) d.streams.run_until(*event->record->queue, event->record->number);
  return SUCCESS;
}

// Whoever asks again and again sees the work go on.
Result query(Event *event) {
  Driver &d = driver();
  if (!event) return INVALID_HANDLE;
  Lock guard(d.lock);
  if (has_happened(*event)) return SUCCESS;
  d.streams.step(*event->record->queue);
  return NOT_READY;
}

Result query(Stream *stream) {
  Driver &d = driver();
  Lock guard(d.lock);
  Target target;
  if (Result r = find(stream, target)) return r;
  if (!target.queue) return wait_for(target), SUCCESS;
  if (target.queue->waiting.empty()) return SUCCESS;
  d.streams.step(*target.queue);
  return NOT_READY;
}

// The operands of a launch are what its parameters point to, up to the end of each allocation.
uint64_t operand_bytes(const emulator::Kernel &kernel, void **params) {
  std::set<uintptr_t> seen;
  uint64_t bytes = 0;
  for (size_t i = 0; i < kernel.parameters; i++) {
    if (kernel.sizes[i] != sizeof(uintptr_t)) continue;
    uintptr_t pointer = *static_cast<const uintptr_t *>(params[i]);
    if (seen.insert(pointer).second) bytes += driver().memory.behind(pointer);
  }
  return bytes;
}

Result launch(Function *f, dim3 grid, dim3 block, unsigned shared, Stream *stream, void **params, void **extra) {
  Driver &d = driver();
  Lock guard(d.lock);
  Target target;
  if (Result r = find_current(stream, target)) return r;
  if (!f) return INVALID_HANDLE;
  if (extra) return NOT_SUPPORTED;
  bool sizes = grid.x && grid.y && grid.z && block.x && block.y && block.z && grid.x <= 2147483647u &&
               grid.y <= 65535 && grid.z <= 65535 && block.x <= 1024 && block.y <= 1024 && block.z <= 64 &&
               uint64_t(block.x) * block.y * block.z <= 1024;
  bool memory = shared <= unsigned(f->max_dynamic_shared);
  if (!sizes || !memory) {
    fprintf(stderr, "emulated device: launch of %s refused: grid (%u,%u,%u), block (%u,%u,%u), %u bytes shared of %d allowed\n",
            f->kernel->name, grid.x, grid.y, grid.z, block.x, block.y, block.z, shared, f->max_dynamic_shared);
    return INVALID_VALUE;
  }
  if (!params && f->kernel->parameters) return INVALID_VALUE;
  d.launches++;
  if (d.tally) d.count(f->kernel->name, operand_bytes(*f->kernel, params));
  if (d.trace)
    fprintf(stderr, "emulated device: %s, grid (%u,%u,%u), block (%u,%u,%u), %u bytes shared, %zu in use\n",
            f->kernel->name, grid.x, grid.y, grid.z, block.x, block.y, block.z, shared, d.memory.used_everywhere);
  const emulator::Kernel *kernel = f->kernel;
  auto arguments = std::make_shared<emulator::Arguments>(*kernel, params);
  add(target, 0, [=, &d] {
    emulator::launch(*kernel, grid, block, shared, arguments->pointers.data());
    if (d.check) d.memory.check_all(kernel->name);
  });
  return SUCCESS;
}

}  // namespace emulated_driver
