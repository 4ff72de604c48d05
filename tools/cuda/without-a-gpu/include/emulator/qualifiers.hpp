// The words the device language adds to C++.
//
// `__global__`, `__shared__` and `__noinline__` stay as they are while a source is
// preprocessed for translate.py (EMULATOR_TRANSLATE), which finds the kernels and the
// shared variables by them. Without translate.py they get a plain meaning, enough for a
// syntax check; dynamic shared memory (`extern __shared__`) needs translate.py.
#pragma once

#define __device__
#define __host__
#define __constant__
#define __managed__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __inline_hint__ inline
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __builtin_assume(condition) ((void)0)
#define __builtin_align__(n) __align__(n)

#ifndef EMULATOR_TRANSLATE
#define __global__
#define __shared__ static
#endif

// Kernels may ask for this where they use what only a real device has (inline PTX, say).
#define EMULATED_DEVICE 1

#ifndef __CUDA_ARCH__
#define __CUDA_ARCH__ 800
#endif
#ifndef __CUDACC__
#define __CUDACC__ 1
#endif
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0
#define CUDA_VERSION 13000
