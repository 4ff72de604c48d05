// Atomics. One device thread runs at a time, so plain code will do. The overloads are the
// device's, so that a type it has no atomic for does not compile here either.
#pragma once

#include "float16.hpp"

#define EMULATOR_ATOMIC(T, name, expression)                     \
  inline T name(T *address, T value) {                           \
    T old = *address;                                            \
    *address = (T)(expression);                                  \
    return old;                                                  \
  }                                                              \
  inline T name##_block(T *address, T value) { return name(address, value); }

#define EMULATOR_ATOMIC_INTEGER(T)                               \
  EMULATOR_ATOMIC(T, atomicMin, old < value ? old : value)       \
  EMULATOR_ATOMIC(T, atomicMax, old > value ? old : value)       \
  EMULATOR_ATOMIC(T, atomicAnd, old & value)                     \
  EMULATOR_ATOMIC(T, atomicOr, old | value)                      \
  EMULATOR_ATOMIC(T, atomicXor, old ^ value)

EMULATOR_ATOMIC(int, atomicAdd, old + value)
EMULATOR_ATOMIC(unsigned, atomicAdd, old + value)
EMULATOR_ATOMIC(unsigned long long, atomicAdd, old + value)
EMULATOR_ATOMIC(float, atomicAdd, old + value)
EMULATOR_ATOMIC(double, atomicAdd, old + value)
EMULATOR_ATOMIC(__half, atomicAdd, old + value)
EMULATOR_ATOMIC(__nv_bfloat16, atomicAdd, old + value)
EMULATOR_ATOMIC(__half2, atomicAdd, __hadd2(old, value))
EMULATOR_ATOMIC(__nv_bfloat162, atomicAdd, __hadd2(old, value))
EMULATOR_ATOMIC(int, atomicSub, old - value)
EMULATOR_ATOMIC(unsigned, atomicSub, old - value)
EMULATOR_ATOMIC(int, atomicExch, value)
EMULATOR_ATOMIC(unsigned, atomicExch, value)
EMULATOR_ATOMIC(unsigned long long, atomicExch, value)
EMULATOR_ATOMIC(float, atomicExch, value)
EMULATOR_ATOMIC(unsigned, atomicInc, old >= value ? 0 : old + 1)
EMULATOR_ATOMIC(unsigned, atomicDec, old == 0 || old > value ? value : old - 1)
EMULATOR_ATOMIC_INTEGER(int)
EMULATOR_ATOMIC_INTEGER(unsigned)
EMULATOR_ATOMIC_INTEGER(unsigned long long)
EMULATOR_ATOMIC(long long, atomicMin, old < value ? old : value)
EMULATOR_ATOMIC(long long, atomicMax, old > value ? old : value)
#undef EMULATOR_ATOMIC_INTEGER
#undef EMULATOR_ATOMIC

#define EMULATOR_CAS(T)                                          \
  inline T atomicCAS(T *address, T compare, T value) {           \
    T old = *address;                                            \
    if (old == compare) *address = value;                        \
    return old;                                                  \
  }
EMULATOR_CAS(int)
EMULATOR_CAS(unsigned)
EMULATOR_CAS(unsigned long long)
EMULATOR_CAS(unsigned short)
#undef EMULATOR_CAS
