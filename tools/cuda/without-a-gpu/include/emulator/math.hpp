// The device's mathematical functions that C++ has not, or has under another name.
// The fast ones (`__expf`) are as exact as the plain ones here. The C library declares some
// of these names too, hence noexcept.
#pragma once

#include <assert.h>
#include <math.h>
#include <stdint.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "fibers.hpp"

using std::abs;
using std::isfinite;
using std::isinf;
using std::isnan;
using std::signbit;

// min and max: the device's own overloads, mixed types included.
#define EMULATOR_MIN_MAX(R, A, B)                                    \
  inline R min(A a, B b) { return (R)a < (R)b ? (R)a : (R)b; }       \
  inline R max(A a, B b) { return (R)a > (R)b ? (R)a : (R)b; }
#define EMULATOR_MIN_MAX_INTEGER(S)                                  \
  EMULATOR_MIN_MAX(S, S, S)                                          \
  EMULATOR_MIN_MAX(unsigned S, unsigned S, unsigned S)               \
  EMULATOR_MIN_MAX(unsigned S, S, unsigned S)                        \
  EMULATOR_MIN_MAX(unsigned S, unsigned S, S)
EMULATOR_MIN_MAX_INTEGER(int)
EMULATOR_MIN_MAX_INTEGER(long)
EMULATOR_MIN_MAX_INTEGER(long long)
#undef EMULATOR_MIN_MAX_INTEGER
#undef EMULATOR_MIN_MAX
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(float a, double b) { return fmin(a, b); }
inline double max(float a, double b) { return fmax(a, b); }
inline double min(double a, float b) { return fmin(a, b); }
inline double max(double a, float b) { return fmax(a, b); }

inline float rsqrtf(float x) noexcept { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) noexcept { return 1.0 / sqrt(x); }
inline float rsqrt(float x) noexcept { return rsqrtf(x); }
inline double normcdf(double x) noexcept { return 0.5 * erfc(-x * 0.70710678118654752440); }
inline float normcdff(float x) noexcept { return float(normcdf(double(x))); }
inline float fdividef(float a, float b) noexcept { return a / b; }
inline float rcbrtf(float x) noexcept { return 1.0f / cbrtf(x); }
inline float sinpif(float x) noexcept { return float(sin(3.14159265358979323846 * x)); }
inline float cospif(float x) noexcept { return float(cos(3.14159265358979323846 * x)); }

inline float __expf(float x) noexcept { return expf(x); }
inline float __exp10f(float x) noexcept { return powf(10.0f, x); }
inline float __logf(float x) noexcept { return logf(x); }
inline float __log2f(float x) noexcept { return log2f(x); }
inline float __log10f(float x) noexcept { return log10f(x); }
inline float __powf(float a, float b) noexcept { return powf(a, b); }
inline float __sinf(float x) noexcept { return sinf(x); }
inline float __cosf(float x) noexcept { return cosf(x); }
inline float __tanf(float x) noexcept { return tanf(x); }
inline float __tanhf(float x) noexcept { return tanhf(x); }
inline void __sincosf(float x, float *s, float *c) noexcept { *s = sinf(x), *c = cosf(x); }
inline float __fdividef(float a, float b) noexcept { return a / b; }
inline float __saturatef(float x) noexcept { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return rsqrtf(x); }
inline float __fdiv_rn(float a, float b) { return a / b; }
// These promise not to be fused into an fma, hence the detour.
#define EMULATOR_UNFUSED(T, name, op) \
  inline T name(T a, T b) {           \
    volatile T r = a op b;            \
    return r;                         \
  }
EMULATOR_UNFUSED(float, __fadd_rn, +)
EMULATOR_UNFUSED(float, __fsub_rn, -)
EMULATOR_UNFUSED(float, __fmul_rn, *)
EMULATOR_UNFUSED(double, __dadd_rn, +)
EMULATOR_UNFUSED(double, __dsub_rn, -)
EMULATOR_UNFUSED(double, __dmul_rn, *)
#undef EMULATOR_UNFUSED

namespace emulator {
template <class To, class From>
To bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
// Float to integer as the device does it: out of range goes to the nearest end, NaN to 0.
template <class To>
To saturate(double x) {
  if (x != x) return 0;
  if (x <= double(std::numeric_limits<To>::min())) return std::numeric_limits<To>::min();
  if (x >= double(std::numeric_limits<To>::max())) return std::numeric_limits<To>::max();
  return To(x);
}
}  // namespace emulator

inline int __float_as_int(float x) { return emulator::bits<int>(x); }
inline unsigned __float_as_uint(float x) { return emulator::bits<unsigned>(x); }
inline float __int_as_float(int x) { return emulator::bits<float>(x); }
inline float __uint_as_float(unsigned x) { return emulator::bits<float>(x); }
inline long long __double_as_longlong(double x) { return emulator::bits<long long>(x); }
inline double __longlong_as_double(long long x) { return emulator::bits<double>(x); }
inline int __float2int_rn(float x) { return emulator::saturate<int>(nearbyintf(x)); }
inline int __float2int_rz(float x) { return emulator::saturate<int>(truncf(x)); }
inline int __float2int_rd(float x) { return emulator::saturate<int>(floorf(x)); }
inline int __float2int_ru(float x) { return emulator::saturate<int>(ceilf(x)); }
inline unsigned __float2uint_rn(float x) { return emulator::saturate<unsigned>(nearbyintf(x)); }
inline unsigned __float2uint_rz(float x) { return emulator::saturate<unsigned>(truncf(x)); }
inline unsigned __float2uint_rd(float x) { return emulator::saturate<unsigned>(floorf(x)); }
inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }
inline float __ll2float_rn(long long x) { return float(x); }
inline float __ull2float_rn(unsigned long long x) { return float(x); }
inline float __double2float_rn(double x) { return float(x); }
inline int __double2int_rz(double x) { return emulator::saturate<int>(trunc(x)); }
inline double __int2double_rn(int x) { return double(x); }

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
  unsigned r = 0;
  for (int i = 0; i < 32; i++) r |= (x >> i & 1) << (31 - i);
  return r;
}
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }
inline int __mulhi(int a, int b) { return int((long long)a * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline int __mul24(int a, int b) { return a * b; }
inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned shift) {
  return unsigned(((unsigned long long)hi << 32 | lo) << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned shift) {
  return unsigned(((unsigned long long)hi << 32 | lo) >> (shift & 31));
}
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  unsigned long long both = (unsigned long long)b << 32 | a;
  unsigned r = 0;
  for (int i = 0; i < 4; i++) {
    unsigned s = selector >> (4 * i) & 15, byte = unsigned(both >> (8 * (s & 7))) & 255;
    if (s & 8) byte = byte & 128 ? 255 : 0;
    r |= byte << (8 * i);
  }
  return r;
}

// Cache hints and fences: one thread runs at a time, on one memory.
template <class T> T __ldg(const T *p) { return *p; }
template <class T> T __ldca(const T *p) { return *p; }
template <class T> T __ldcg(const T *p) { return *p; }
template <class T> T __ldcs(const T *p) { return *p; }
template <class T> T __ldlu(const T *p) { return *p; }
template <class T> void __stcg(T *p, T v) { *p = v; }
template <class T> void __stcs(T *p, T v) { *p = v; }
template <class T> void __stwb(T *p, T v) { *p = v; }
template <class T> void __stwt(T *p, T v) { *p = v; }
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned) {}
[[noreturn]] inline void __trap() { emulator::fail("__trap()"); }
inline long long clock64() { return __builtin_ia32_rdtsc(); }
