// Asynchronous copies into shared memory. A copy arrives when its thread waits for it and
// not before, so that a missing wait shows.
#pragma once
#include "device.hpp"

namespace emulator {
struct PendingCopy { void *to; const void *from; size_t bytes, zeroed; unsigned batch; };
struct Pipeline {
  uint64_t serial = 0;
  unsigned batch = 0;
  std::vector<PendingCopy> copies;
};
inline Pipeline &pipeline() {
  static Pipeline all[kMaxThreads];
  Pipeline &mine = all[block.current];
  if (mine.serial != block.serial) mine.serial = block.serial, mine.batch = 0, mine.copies.clear();
  return mine;
}
}  // namespace emulator

inline void __pipeline_memcpy_async(void *to, const void *from, size_t bytes, size_t zero_fill = 0) {
  if (bytes != 4 && bytes != 8 && bytes != 16) emulator::fail("__pipeline_memcpy_async takes 4, 8 or 16 bytes");
  if (reinterpret_cast<uintptr_t>(to) % bytes || reinterpret_cast<uintptr_t>(from) % bytes)
    emulator::fail("__pipeline_memcpy_async: a pointer is not aligned to the size copied");
  auto &p = emulator::pipeline();
  p.copies.push_back({to, from, bytes - zero_fill, zero_fill, p.batch});
}
inline void __pipeline_commit() { emulator::pipeline().batch++; }
// Waits for all but the last `keep` batches.
inline void __pipeline_wait_prior(size_t keep) {
  auto &p = emulator::pipeline();
  size_t n = 0;
  for (; n < p.copies.size() && p.copies[n].batch + keep < p.batch; n++) {
    auto &copy = p.copies[n];
    memcpy(copy.to, copy.from, copy.bytes);
    memset(static_cast<char *>(copy.to) + copy.bytes, 0, copy.zeroed);
  }
  p.copies.erase(p.copies.begin(), p.copies.begin() + long(n));
}
