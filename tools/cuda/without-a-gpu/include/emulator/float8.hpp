// __nv_fp8_e4m3, only as far as sources name it: correct, slow, no arithmetic.
#pragma once

#include "float16.hpp"

enum __nv_fp8_interpretation_t { __NV_E4M3, __NV_E5M2 };
enum __nv_saturation_t { __NV_NOSAT, __NV_SATFINITE };
typedef unsigned char __nv_fp8_storage_t;

namespace emulator {
inline float e4m3_to_float(unsigned char x) {
  int exponent = x >> 3 & 15, mantissa = x & 7;
  if ((x & 0x7f) == 0x7f) return NAN;
  float value = exponent ? ldexpf(float(8 + mantissa), exponent - 10) : ldexpf(float(mantissa), -9);
  return x & 0x80 ? -value : value;
}
inline unsigned char float_to_e4m3(float f) {
  if (f != f) return 0x7f;
  unsigned char sign = std::signbit(f) ? 0x80 : 0, best = 0;
  float magnitude = fabsf(f);
  for (int code = 1; code < 0x7f; code++) {  // the nearest code, the even one of two
    float here = fabsf(e4m3_to_float((unsigned char)code) - magnitude);
    float there = fabsf(e4m3_to_float(best) - magnitude);
    if (here < there || (here == there && code % 2 == 0)) best = (unsigned char)code;
  }
  return sign | best;
}
}  // namespace emulator

struct __nv_fp8_e4m3 {
  __nv_fp8_storage_t __x;
  __nv_fp8_e4m3() = default;
  explicit __nv_fp8_e4m3(float f) : __x(emulator::float_to_e4m3(f)) {}
  explicit __nv_fp8_e4m3(double d) : __nv_fp8_e4m3(emulator::to_odd(d)) {}
  explicit __nv_fp8_e4m3(__half h) : __nv_fp8_e4m3(float(h)) {}
  explicit __nv_fp8_e4m3(__nv_bfloat16 b) : __nv_fp8_e4m3(float(b)) {}
  explicit operator float() const { return emulator::e4m3_to_float(__x); }
};

inline __half_raw __nv_cvt_fp8_to_halfraw(__nv_fp8_storage_t x, __nv_fp8_interpretation_t kind) {
  if (kind != __NV_E4M3) emulator::fail("only the e4m3 format is emulated");
  return __half(emulator::e4m3_to_float(x));
}
