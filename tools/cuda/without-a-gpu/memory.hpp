// Device memory: host memory, counted and fenced.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

namespace emulator {

struct Allocation {
  size_t bytes;
  int device;
};

constexpr size_t kFence = 512;  // before and behind each allocation; also their alignment
constexpr unsigned char kFenceByte = 0xA5, kFreshByte = 0xFF;
constexpr int kMaxDevices = 16;

struct Memory {
  std::map<uintptr_t, Allocation> live;
  size_t total = 0, used[kMaxDevices] = {}, used_everywhere = 0, peak = 0;

  Memory() {
    const char *mib = getenv("EMULATED_MEMORY");
    total = size_t(mib && *mib ? atoll(mib) : 4096) << 20;
  }

  // nullptr where the device is full.
  void *allocate(size_t bytes, int device) {
    if (bytes > total || used[device] > total - bytes) return nullptr;
    size_t rounded = (bytes + kFence - 1) / kFence * kFence;
    char *raw = static_cast<char *>(aligned_alloc(kFence, rounded + 2 * kFence));
    if (!raw) return nullptr;
    memset(raw, kFenceByte, kFence);
    memset(raw + kFence, kFreshByte, bytes);
    memset(raw + kFence + bytes, kFenceByte, rounded - bytes + kFence);
    live[uintptr_t(raw + kFence)] = {bytes, device};
    used[device] += bytes;
    used_everywhere += bytes;
    if (used_everywhere > peak) peak = used_everywhere;
    return raw + kFence;
  }

  // False for a pointer that is no allocation's.
  bool release(uintptr_t pointer) {
    auto found = live.find(pointer);
    if (found == live.end()) return false;
    check(found->first, found->second, "before it was freed");
    used[found->second.device] -= found->second.bytes;
    used_everywhere -= found->second.bytes;
    memset(reinterpret_cast<void *>(pointer), kFreshByte, found->second.bytes);  // a use after this shows
    free(reinterpret_cast<char *>(pointer) - kFence);
    live.erase(found);
    return true;
  }

  // Whether all of the range lies in one allocation.
  bool contains(uintptr_t pointer, size_t bytes) const {
    if (!bytes) return true;
    auto after = live.upper_bound(pointer);
    if (after == live.begin()) return false;
    auto found = std::prev(after);
    return pointer - found->first <= found->second.bytes && bytes <= found->second.bytes - (pointer - found->first);
  }

  static void check(uintptr_t pointer, const Allocation &allocation, const char *when) {
    auto *at = reinterpret_cast<const unsigned char *>(pointer);
    for (size_t i = 0; i < kFence; i++) {
      bool before = at[-1 - long(i)] != kFenceByte, behind = at[allocation.bytes + i] != kFenceByte;
      if (!before && !behind) continue;
      fprintf(stderr, "emulated device: %s: byte %zu %s an allocation of %zu bytes was written\n", when,
              before ? i + 1 : i, before ? "before" : "behind", allocation.bytes);
      abort();
    }
  }

  void check_all(const char *when) const {
    for (auto &entry : live) check(entry.first, entry.second, when);
  }
};

}  // namespace emulator
