// __half and __nv_bfloat16. Arithmetic goes through float and is rounded once, to nearest
// even, as the device's own instructions do.
#pragma once

#include "math.hpp"

namespace emulator {

inline float bf16_to_float(uint16_t b) { return bits<float>(uint32_t(b) << 16); }
inline uint16_t float_to_bf16(float f) {
  uint32_t u = bits<uint32_t>(f);
  if ((u & 0x7fffffff) > 0x7f800000) return 0x7fff;
  return uint16_t((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

inline float half_to_float(uint16_t h) {
  uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 0x3ff;
  if (exponent == 31) return bits<float>(sign | 0x7f800000 | mantissa << 13);
  if (exponent) return bits<float>(sign | (exponent + 112) << 23 | mantissa << 13);
  return bits<float>(sign | bits<uint32_t>(float(mantissa) * 0x1p-24f));
}
inline uint16_t float_to_half(float f) {
  uint32_t u = bits<uint32_t>(f), sign = u >> 16 & 0x8000;
  u &= 0x7fffffff;
  if (u > 0x7f800000) return 0x7fff;
  if (u >= 0x477ff000) return uint16_t(sign | 0x7c00);  // 65520 and above
  if (u < 0x38800000) return uint16_t(sign | uint32_t(nearbyintf(bits<float>(u) * 0x1p24f)));  // subnormal
  return uint16_t(sign | (u + 0xfff + (u >> 13 & 1) - (112u << 23)) >> 13);
}

// A double as the float "rounded to odd", which a second rounding then gets right.
inline float to_odd(double d) {
  float f = float(d);
  if (d != d || double(f) == d || std::isinf(f)) return f;
  uint32_t u = bits<uint32_t>(f);
  if (fabs(double(f)) > fabs(d)) u--;
  return bits<float>(u | 1);
}

}  // namespace emulator

#define EMULATOR_FLOAT16(T, raw, to_float, from_float)                                      \
  struct raw { unsigned short x; };                                                         \
  struct T {                                                                                \
    unsigned short __x;                                                                     \
    T() = default;                                                                          \
    T(raw r) : __x(r.x) {}                                                                  \
    T(float f) : __x(emulator::from_float(f)) {}                                            \
    T(double d) : __x(emulator::from_float(emulator::to_odd(d))) {}                         \
    T(short i) : T(float(i)) {}                                                             \
    T(unsigned short i) : T(float(i)) {}                                                    \
    T(int i) : T(double(i)) {}                                                              \
    T(unsigned i) : T(double(i)) {}                                                         \
    T(long i) : T(double(i)) {}                                                             \
    T(unsigned long i) : T(double(i)) {}                                                    \
    T(long long i) : T(double(i)) {}                                                        \
    T(unsigned long long i) : T(double(i)) {}                                               \
    operator raw() const { return {__x}; }                                                  \
    operator float() const { return emulator::to_float(__x); }                              \
    operator bool() const { return (__x & 0x7fff) != 0; }                                   \
    operator char() const { return emulator::saturate<char>(float(*this)); }                \
    operator signed char() const { return emulator::saturate<signed char>(float(*this)); }  \
    operator unsigned char() const { return emulator::saturate<unsigned char>(float(*this)); } \
    operator short() const { return emulator::saturate<short>(float(*this)); }              \
    operator unsigned short() const { return emulator::saturate<unsigned short>(float(*this)); } \
    operator int() const { return emulator::saturate<int>(float(*this)); }                  \
    operator unsigned() const { return emulator::saturate<unsigned>(float(*this)); }        \
    operator long() const { return emulator::saturate<long>(float(*this)); }                \
    operator unsigned long() const { return emulator::saturate<unsigned long>(float(*this)); } \
    operator long long() const { return emulator::saturate<long long>(float(*this)); }      \
    operator unsigned long long() const { return emulator::saturate<unsigned long long>(float(*this)); } \
  };                                                                                        \
  inline T operator+(const T &a, const T &b) { return T(float(a) + float(b)); }             \
  inline T operator-(const T &a, const T &b) { return T(float(a) - float(b)); }             \
  inline T operator*(const T &a, const T &b) { return T(float(a) * float(b)); }             \
  inline T operator/(const T &a, const T &b) { return T(float(a) / float(b)); }             \
  inline T &operator+=(T &a, const T &b) { return a = a + b; }                              \
  inline T &operator-=(T &a, const T &b) { return a = a - b; }                              \
  inline T &operator*=(T &a, const T &b) { return a = a * b; }                              \
  inline T &operator/=(T &a, const T &b) { return a = a / b; }                              \
  inline T operator+(const T &a) { return a; }                                              \
  inline T operator-(const T &a) { T r; r.__x = a.__x ^ 0x8000; return r; }                 \
  inline bool operator==(const T &a, const T &b) { return float(a) == float(b); }           \
  inline bool operator!=(const T &a, const T &b) { return float(a) != float(b); }           \
  inline bool operator<(const T &a, const T &b) { return float(a) < float(b); }             \
  inline bool operator>(const T &a, const T &b) { return float(a) > float(b); }             \
  inline bool operator<=(const T &a, const T &b) { return float(a) <= float(b); }           \
  inline bool operator>=(const T &a, const T &b) { return float(a) >= float(b); }           \
  inline T __hadd(T a, T b) { return a + b; }                                               \
  inline T __hsub(T a, T b) { return a - b; }                                               \
  inline T __hmul(T a, T b) { return a * b; }                                               \
  inline T __hdiv(T a, T b) { return a / b; }                                               \
  inline T __hadd_rn(T a, T b) { return a + b; }                                            \
  inline T __hsub_rn(T a, T b) { return a - b; }                                            \
  inline T __hmul_rn(T a, T b) { return a * b; }                                            \
  inline T __hfma(T a, T b, T c) { return T(emulator::to_odd(fma(double(float(a)), double(float(b)), double(float(c))))); } \
  inline T __hneg(T a) { return -a; }                                                       \
  inline T __habs(T a) { a.__x &= 0x7fff; return a; }                                       \
  inline T __hmax(T a, T b) { return T(fmaxf(float(a), float(b))); }                        \
  inline T __hmin(T a, T b) { return T(fminf(float(a), float(b))); }                        \
  inline bool __hisnan(T a) { return std::isnan(float(a)); }                                \
  inline int __hisinf(T a) { return std::isinf(float(a)) ? (float(a) < 0 ? -1 : 1) : 0; }   \
  inline T __hmax_nan(T a, T b) { return __hisnan(a) || __hisnan(b) ? T(NAN) : __hmax(a, b); } \
  inline T __hmin_nan(T a, T b) { return __hisnan(a) || __hisnan(b) ? T(NAN) : __hmin(a, b); } \
  inline bool __heq(T a, T b) { return a == b; }                                            \
  inline bool __hne(T a, T b) { return a != b; }                                            \
  inline bool __hlt(T a, T b) { return a < b; }                                             \
  inline bool __hle(T a, T b) { return a <= b; }                                            \
  inline bool __hgt(T a, T b) { return a > b; }                                             \
  inline bool __hge(T a, T b) { return a >= b; }                                            \
  inline T hsqrt(T a) { return T(sqrtf(float(a))); }                                        \
  inline T hrsqrt(T a) { return T(rsqrtf(float(a))); }                                      \
  inline T hrcp(T a) { return T(1.0f / float(a)); }                                         \
  inline T hexp(T a) { return T(expf(float(a))); }                                          \
  inline T hexp2(T a) { return T(exp2f(float(a))); }                                        \
  inline T hlog(T a) { return T(logf(float(a))); }                                          \
  inline T hlog2(T a) { return T(log2f(float(a))); }                                        \
  inline T hsin(T a) { return T(sinf(float(a))); }                                          \
  inline T hcos(T a) { return T(cosf(float(a))); }                                          \
  inline T htanh(T a) { return T(tanhf(float(a))); }                                        \
  inline T hceil(T a) { return T(ceilf(float(a))); }                                        \
  inline T hfloor(T a) { return T(floorf(float(a))); }                                      \
  inline T htrunc(T a) { return T(truncf(float(a))); }                                      \
  inline T hrint(T a) { return T(nearbyintf(float(a))); }

EMULATOR_FLOAT16(__half, __half_raw, half_to_float, float_to_half)
EMULATOR_FLOAT16(__nv_bfloat16, __nv_bfloat16_raw, bf16_to_float, float_to_bf16)
#undef EMULATOR_FLOAT16
using half = __half;
using nv_bfloat16 = __nv_bfloat16;

inline float __half2float(__half a) { return a; }
inline __half __float2half(float f) { return __half(f); }
inline __half __float2half_rn(float f) { return __half(f); }
inline __half __double2half(double d) { return __half(d); }
inline __half __int2half_rn(int i) { return __half(i); }
inline int __half2int_rn(__half a) { return __float2int_rn(a); }
inline unsigned short __half_as_ushort(__half a) { return a.__x; }
inline short __half_as_short(__half a) { return short(a.__x); }
inline __half __ushort_as_half(unsigned short x) { return __half_raw{x}; }
inline __half __short_as_half(short x) { return __half_raw{(unsigned short)x}; }
inline float __bfloat162float(__nv_bfloat16 a) { return a; }
inline __nv_bfloat16 __float2bfloat16(float f) { return __nv_bfloat16(f); }
inline __nv_bfloat16 __float2bfloat16_rn(float f) { return __nv_bfloat16(f); }
inline __nv_bfloat16 __float2bfloat16_rz(float f) {
  return __nv_bfloat16_raw{(unsigned short)(f != f ? 0x7fff : __float_as_uint(f) >> 16)};
}
inline __nv_bfloat16 __double2bfloat16(double d) { return __nv_bfloat16(d); }
inline __nv_bfloat16 __int2bfloat16_rn(int i) { return __nv_bfloat16(i); }
inline __nv_bfloat16 __uint2bfloat16_rn(unsigned i) { return __nv_bfloat16(i); }
inline int __bfloat162int_rn(__nv_bfloat16 a) { return __float2int_rn(a); }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 a) { return a.__x; }
inline short __bfloat16_as_short(__nv_bfloat16 a) { return short(a.__x); }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short x) { return __nv_bfloat16_raw{x}; }
inline __nv_bfloat16 __short_as_bfloat16(short x) { return __nv_bfloat16_raw{(unsigned short)x}; }

// Pairs.
#define EMULATOR_PAIR(T2, T)                                                                \
  struct __attribute__((aligned(4))) T2 {                                                   \
    T x, y;                                                                                 \
    T2() = default;                                                                         \
    T2(T x, T y) : x(x), y(y) {}                                                            \
  };                                                                                        \
  inline T2 __hadd2(T2 a, T2 b) { return {a.x + b.x, a.y + b.y}; }                          \
  inline T2 __hsub2(T2 a, T2 b) { return {a.x - b.x, a.y - b.y}; }                          \
  inline T2 __hmul2(T2 a, T2 b) { return {a.x * b.x, a.y * b.y}; }                          \
  inline T2 __h2div(T2 a, T2 b) { return {a.x / b.x, a.y / b.y}; }                          \
  inline T2 __hneg2(T2 a) { return {-a.x, -a.y}; }                                          \
  inline T2 __habs2(T2 a) { return {__habs(a.x), __habs(a.y)}; }                            \
  inline T2 __hmax2(T2 a, T2 b) { return {__hmax(a.x, b.x), __hmax(a.y, b.y)}; }            \
  inline T2 __hmin2(T2 a, T2 b) { return {__hmin(a.x, b.x), __hmin(a.y, b.y)}; }            \
  inline T2 __hfma2(T2 a, T2 b, T2 c) { return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)}; } \
  inline T2 operator+(T2 a, T2 b) { return __hadd2(a, b); }                                 \
  inline T2 operator-(T2 a, T2 b) { return __hsub2(a, b); }                                 \
  inline T2 operator*(T2 a, T2 b) { return __hmul2(a, b); }                                 \
  inline T2 operator/(T2 a, T2 b) { return __h2div(a, b); }                                 \
  inline float __low2float(T2 a) { return a.x; }                                            \
  inline float __high2float(T2 a) { return a.y; }

EMULATOR_PAIR(__half2, __half)
EMULATOR_PAIR(__nv_bfloat162, __nv_bfloat16)
#undef EMULATOR_PAIR
using half2 = __half2;
using nv_bfloat162 = __nv_bfloat162;

inline __half2 __floats2half2_rn(float x, float y) { return {__half(x), __half(y)}; }
inline __half2 __float22half2_rn(float2 a) { return {__half(a.x), __half(a.y)}; }
inline __half2 __float2half2_rn(float x) { return {__half(x), __half(x)}; }
inline __half2 __half2half2(__half x) { return {x, x}; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half2 make_half2(__half x, __half y) { return {x, y}; }
inline float2 __half22float2(__half2 a) { return {a.x, a.y}; }
inline __half __low2half(__half2 a) { return a.x; }
inline __half __high2half(__half2 a) { return a.y; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {__nv_bfloat16(x), __nv_bfloat16(y)}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 a) { return {__nv_bfloat16(a.x), __nv_bfloat16(a.y)}; }
inline __nv_bfloat162 __float2bfloat162_rn(float x) { return {__nv_bfloat16(x), __nv_bfloat16(x)}; }
inline __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 x) { return {x, x}; }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline __nv_bfloat162 make_bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline float2 __bfloat1622float2(__nv_bfloat162 a) { return {a.x, a.y}; }
inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 a) { return a.x; }
inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 a) { return a.y; }
