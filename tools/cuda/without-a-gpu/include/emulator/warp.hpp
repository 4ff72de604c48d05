// Barriers and the operations between the lanes of a warp.
//
// A lane that reads from one that is absent (it returned, or the mask leaves it out) gets
// poison, where a device gives an undefined value.
#pragma once

#include <type_traits>

#include "fibers.hpp"

inline void __syncthreads() { emulator::barrier(0); }
inline int __syncthreads_count(int predicate) {
  emulator::barrier(predicate);
  return emulator::block.barrier_predicates;
}
inline int __syncthreads_or(int predicate) { return __syncthreads_count(predicate) != 0; }
inline int __syncthreads_and(int predicate) {
  emulator::barrier(predicate);
  return emulator::block.barrier_predicates == emulator::block.barrier_arrived;
}

namespace emulator {

inline void complete_nothing(Warp &, uint32_t) {}

inline void complete_shuffle(Warp &warp, uint32_t lanes) {
  for (uint32_t left = lanes; left; left &= left - 1) {
    int lane = __builtin_ctz(left), source = warp.source[lane];
    warp.reply[lane] = lanes >> source & 1 ? warp.value[source] : ~uint64_t(0);
  }
}

// Every lane's reply: the lanes whose value is not zero, and in the high half all of them.
inline void complete_ballot(Warp &warp, uint32_t lanes) {
  uint64_t votes = 0;
  for (uint32_t left = lanes; left; left &= left - 1)
    if (warp.value[__builtin_ctz(left)]) votes |= 1u << __builtin_ctz(left);
  for (uint32_t left = lanes; left; left &= left - 1)
    warp.reply[__builtin_ctz(left)] = votes | uint64_t(lanes) << 32;
}

// Every lane's reply: the lanes that hold the same value.
inline void complete_match(Warp &warp, uint32_t lanes) {
  for (uint32_t left = lanes; left; left &= left - 1) {
    uint64_t same = 0;
    for (uint32_t other = lanes; other; other &= other - 1)
      if (warp.value[__builtin_ctz(other)] == warp.value[__builtin_ctz(left)]) same |= 1u << __builtin_ctz(other);
    warp.reply[__builtin_ctz(left)] = same;
  }
}

template <class T, class F>
void complete_reduction(Warp &warp, uint32_t lanes, F combine) {
  T total = static_cast<T>(warp.value[__builtin_ctz(lanes)]);
  for (uint32_t left = lanes & (lanes - 1); left; left &= left - 1)
    total = combine(total, static_cast<T>(warp.value[__builtin_ctz(left)]));
  for (uint32_t left = lanes; left; left &= left - 1)
    warp.reply[__builtin_ctz(left)] = static_cast<uint64_t>(total);
}

inline constexpr Collective kSyncWarp{"__syncwarp", complete_nothing};
inline constexpr Collective kShuffle{"a shuffle", complete_shuffle};
inline constexpr Collective kBallot{"a vote", complete_ballot};
inline constexpr Collective kMatch{"__match_any_sync", complete_match};

inline unsigned lane() { return block.current % kWarp; }

template <class T>
T shuffle(unsigned mask, T value, int source) {
  static_assert(std::is_trivially_copyable<T>::value && sizeof(T) <= 8, "a shuffle moves up to 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(T));
  bits = collective(kShuffle, mask, bits, source);
  memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace emulator

inline void __syncwarp(unsigned mask = 0xffffffffu) { emulator::collective(emulator::kSyncWarp, mask, 0); }

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  int lane = emulator::lane();
  return emulator::shuffle(mask, value, (lane & ~(width - 1)) | (source & (width - 1)));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32) {
  int lane = emulator::lane(), source = lane ^ lane_mask;
  if (source >= (lane & ~(width - 1)) + width) source = lane;
  return emulator::shuffle(mask, value, source);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  int lane = emulator::lane();
  return emulator::shuffle(mask, value, int((lane & (width - 1)) + delta) < width ? lane + int(delta) : lane);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  int lane = emulator::lane();
  return emulator::shuffle(mask, value, (lane & (width - 1)) >= int(delta) ? lane - int(delta) : lane);
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return unsigned(emulator::collective(emulator::kBallot, mask, predicate != 0));
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) {
  uint64_t votes = emulator::collective(emulator::kBallot, mask, predicate != 0);
  return unsigned(votes) == unsigned(votes >> 32);
}
// The lanes that have not returned: which of them a device would find converged, it does
// not promise either.
inline unsigned __activemask() { return emulator::block.warp[emulator::block.current / 32].alive; }

template <class T>
unsigned __match_any_sync(unsigned mask, T value) {
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(T));
  return unsigned(emulator::collective(emulator::kMatch, mask, bits));
}

#define EMULATOR_REDUCE(T, suffix, expression)                                                     \
  inline T __reduce_##suffix##_sync(unsigned mask, T value) {                                      \
    static constexpr emulator::Collective operation{                                               \
        "__reduce_" #suffix "_sync", [](emulator::Warp &warp, uint32_t lanes) {                    \
          emulator::complete_reduction<T>(warp, lanes, [](T a, T b) -> T { return expression; });  \
        }};                                                                                        \
    return T(emulator::collective(operation, mask, uint64_t(value)));                              \
  }
EMULATOR_REDUCE(unsigned, add, a + b)
EMULATOR_REDUCE(unsigned, min, a < b ? a : b)
EMULATOR_REDUCE(unsigned, max, a > b ? a : b)
EMULATOR_REDUCE(unsigned, and, a & b)
EMULATOR_REDUCE(unsigned, or, a | b)
EMULATOR_REDUCE(unsigned, xor, a ^ b)
EMULATOR_REDUCE(int, add, a + b)
EMULATOR_REDUCE(int, min, a < b ? a : b)
EMULATOR_REDUCE(int, max, a > b ? a : b)
#undef EMULATOR_REDUCE
