// Kernels of the emulator's own test.
#include <cuda_bf16.h>
#include <cuda_pipeline.h>
#include <mma.h>
#include <stdint.h>

using namespace nvcuda;

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

// One sum per block; the threads beyond n have returned before the barrier.
extern "C" __global__ void __launch_bounds__(256) selftest_sum(const float *x, float *out, const int n) {
  __shared__ float partial[32];
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  float sum = warp_sum(i < n ? x[i] : 0.0f);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  sum = warp_sum(threadIdx.x < blockDim.x / 32 ? partial[threadIdx.x] : 0.0f);
  if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

// Reverses a block through static and dynamic memory.
extern "C" __global__ void selftest_shared(const int *x, int *out, double *poison) {
  extern __shared__ __align__(16) int dynamic[];
  __shared__ int fixed[1024], unused[4];
  const unsigned t = threadIdx.x + blockDim.x * threadIdx.y, n = blockDim.x * blockDim.y;
  if (t == 0) poison[0] = unused[1] == -1 && __int_as_float(dynamic[1]) != __int_as_float(dynamic[1]);
  __syncthreads();
  fixed[t] = x[blockIdx.x * n + t];
  __syncthreads();
  dynamic[t] = fixed[n - 1 - t];
  __syncthreads();
  out[blockIdx.x * n + t] = dynamic[t ^ 1];
}

template <class LayoutA, class LayoutB>
__device__ void product(const __nv_bfloat16 *a, const __nv_bfloat16 *b, float *c, wmma::layout_t layout) {
  wmma::fragment<wmma::matrix_a, 16, 16, 16, __nv_bfloat16, LayoutA> fa;
  wmma::fragment<wmma::matrix_b, 16, 16, 16, __nv_bfloat16, LayoutB> fb;
  wmma::fragment<wmma::accumulator, 16, 16, 16, float> fc;
  wmma::fill_fragment(fc, 1.0f);
  wmma::load_matrix_sync(fa, a, 16);
  wmma::load_matrix_sync(fb, b, 16);
  wmma::mma_sync(fc, fa, fb, fc);
  for (int i = 0; i < fc.num_elements; i++) fc.x[i] *= 2.0f;
  wmma::store_matrix_sync(c, fc, 16, layout);
}

// Each of the block's four warps does one pair of layouts.
extern "C" __global__ void selftest_wmma(const __nv_bfloat16 *a, const __nv_bfloat16 *b, float *c) {
  const int warp = threadIdx.x / 32;
  if (warp == 0) product<wmma::row_major, wmma::row_major>(a, b, c, wmma::mem_row_major);
  if (warp == 1) product<wmma::row_major, wmma::col_major>(a, b, c + 256, wmma::mem_row_major);
  if (warp == 2) product<wmma::col_major, wmma::row_major>(a, b, c + 512, wmma::mem_col_major);
  if (warp == 3) product<wmma::col_major, wmma::col_major>(a, b, c + 768, wmma::mem_col_major);
}

extern "C" __global__ void selftest_votes(unsigned *out) {
  __shared__ unsigned total;
  if (threadIdx.x == 0) total = 0;
  const int odd = __syncthreads_count(threadIdx.x & 1);
  const unsigned ballot = __ballot_sync(0xffffffffu, threadIdx.x % 3 == 0);
  const int down = __shfl_down_sync(0xffffffffu, int(threadIdx.x), 4);
  const double far = __shfl_sync(0xffffffffu, 0.5 * threadIdx.x, 7, 16);
  // half a warp on its own
  int half_sum = 0;
  if (threadIdx.x % 32 < 16) {
    half_sum = 1;
    for (int offset = 8; offset > 0; offset /= 2) half_sum += __shfl_xor_sync(0x0000ffffu, half_sum, offset);
  }
  atomicAdd(&total, 1u);
  __syncthreads();
  unsigned *mine = out + 6 * (blockIdx.x * blockDim.x + threadIdx.x);
  mine[0] = odd, mine[1] = ballot, mine[2] = down, mine[3] = unsigned(2 * far), mine[4] = half_sum, mine[5] = total;
}

extern "C" __global__ void selftest_round(const float *x, __nv_bfloat16 *b, __half *h, int n) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    b[i] = __float2bfloat16(x[i]);
    h[i] = __float2half(x[i]);
  }
}

extern "C" __global__ void selftest_pipeline(const float4 *x, float4 *out) {
  __shared__ float4 stage[2][32];
  __pipeline_memcpy_async(&stage[0][threadIdx.x], &x[threadIdx.x], 16);
  __pipeline_commit();
  __pipeline_memcpy_async(&stage[1][threadIdx.x], &x[threadIdx.x + 32], 16);
  __pipeline_commit();
  __pipeline_wait_prior(1);
  out[threadIdx.x] = stage[0][threadIdx.x];
  out[threadIdx.x + 64].x = stage[1][threadIdx.x].x;  // not arrived yet
  __pipeline_wait_prior(0);
  out[threadIdx.x + 32] = stage[1][threadIdx.x];
}

extern "C" __global__ void selftest_deadlock(int *out) {
  if (threadIdx.x == 0) __shfl_xor_sync(0xffffffffu, 1, 1);
  else __syncthreads();
  out[threadIdx.x] = 1;
}

extern "C" __global__ void selftest_overrun(float *out) { out[threadIdx.x] = 1.0f; }

extern "C" __global__ void selftest_misaligned(float *out) {
  reinterpret_cast<float2 *>(out + 1)[threadIdx.x] = make_float2(1.0f, 2.0f);
}

extern "C" __global__ void selftest_bounds(float *out) {
  __shared__ float line[32];
  line[threadIdx.x] = 1.0f;
  out[0] = line[0];
}

extern "C" __global__ void selftest_identity(const float *x, float *out, size_t n) {
  const size_t i = blockIdx.x * size_t(blockDim.x) + threadIdx.x;
  if (i < n) out[i] = x[i] + 1.0f;
}
