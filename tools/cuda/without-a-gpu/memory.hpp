// Device memory: host memory, counted and fenced.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>

namespace emulator {

struct Allocation {
  size_t bytes;
  int device;
};

// What has been freed by a call, and will be once the stream comes to it.
struct Freed {
  uintptr_t pointer;
  size_t bytes;
};

constexpr size_t kFence = 512;  // before and behind each allocation; also their alignment
constexpr unsigned char kFenceByte = 0xA5, kFreshByte = 0xFF;
constexpr int kMaxDevices = 16;

struct Memory {
  std::map<uintptr_t, Allocation> live;
  // Freed, and kept until all work with a lower number has run, lest it reaches other people's memory.
  struct Grave {
    Freed freed;
    uint64_t number;
  };
  std::deque<Grave> graves;
  size_t buried = 0;  // bytes
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

  // Takes an allocation off the books; false for a pointer that is no allocation's.
  bool take(uintptr_t pointer, Freed &freed) {
    auto found = live.find(pointer);
    if (found == live.end()) return false;
    freed = {pointer, found->second.bytes};
    used[found->second.device] -= freed.bytes;
    used_everywhere -= freed.bytes;
    live.erase(found);
    return true;
  }

  // Frees what was taken; work with a lower number than this may still reach it.
  void bury(const Freed &freed, uint64_t number) {
    check(freed.pointer, freed.bytes, "before it was freed");
    memset(reinterpret_cast<void *>(freed.pointer), kFreshByte, freed.bytes);  // a use after this shows
    graves.push_back({freed, number});
    buried += freed.bytes;
  }

  void forget_before(uint64_t number) {
    while (!graves.empty() && graves.front().number <= number) {
      Freed freed = graves.front().freed;
      graves.pop_front();
      buried -= freed.bytes;
      auto *at = reinterpret_cast<const unsigned char *>(freed.pointer);
      for (size_t i = 0; i < freed.bytes; i++) {
        if (at[i] == kFreshByte) continue;
        fprintf(stderr, "emulated device: byte %zu of an allocation of %zu bytes was written after it was freed\n", i, freed.bytes);
        abort();
      }
      check(freed.pointer, freed.bytes, "after it was freed");
      free(reinterpret_cast<char *>(freed.pointer) - kFence);
    }
  }

  // Whether all of the range lies in one allocation.
  bool contains(uintptr_t pointer, size_t bytes) const {
    if (!bytes) return true;
    auto after = live.upper_bound(pointer);
    if (after == live.begin()) return false;
    auto found = std::prev(after);
    return pointer - found->first <= found->second.bytes && bytes <= found->second.bytes - (pointer - found->first);
  }

  // The bytes from a pointer to the end of its allocation; none where it points into no allocation.
  size_t behind(uintptr_t pointer) const {
    auto after = live.upper_bound(pointer);
    if (after == live.begin()) return 0;
    auto found = std::prev(after);
    size_t before = pointer - found->first;
    return before < found->second.bytes ? found->second.bytes - before : 0;
  }

  static void check(uintptr_t pointer, size_t bytes, const char *when) {
    auto *at = reinterpret_cast<const unsigned char *>(pointer);
    for (size_t i = 0; i < kFence; i++) {
      bool before = at[-1 - long(i)] != kFenceByte, behind = at[bytes + i] != kFenceByte;
      if (!before && !behind) continue;
      fprintf(stderr, "emulated device: %s: byte %zu %s an allocation of %zu bytes was written\n", when,
              before ? i + 1 : i, before ? "before" : "behind", bytes);
      abort();
    }
  }

  void check_all(const char *when) const {
    for (auto &entry : live) check(entry.first, entry.second.bytes, when);
  }
};

}  // namespace emulator
