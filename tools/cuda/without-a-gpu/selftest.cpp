// The emulator's own test, against the three libraries as a program loads them.
// build.sh OUT_DIR --test runs it.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "emulator/float16.hpp"
#include "selftest.hpp"

static float noise() { return float(rand() % 2001 - 1000) / 256.0f; }

static void test_sum() {
  const int blocks = 9, threads = 256;
  int n = blocks * threads - 57;
  std::vector<float> x(n);
  for (float &v : x) v = noise();
  Device<float> dx(x), out(blocks);
  check(launch("selftest_sum", blocks, threads, 1, 0, {&dx.pointer, &out.pointer, &n}) == 0, "the launch of a sum");
  auto sums = out.get();
  for (int b = 0; b < blocks; b++) {
    double want = 0;
    for (int i = b * threads; i < (b + 1) * threads && i < n; i++) want += x[i];
    check(std::fabs(sums[b] - want) < 1e-3, "a sum by shuffles and a barrier");
  }
}

static void test_shared() {
  std::vector<int> x(3 * 96);
  for (int &v : x) v = rand();
  Device<int> dx(x), out(x.size());
  Device<double> poison(1);
  check(launch("selftest_shared", 3, 32, 3, 96 * 4, {&dx.pointer, &out.pointer, &poison.pointer}) == 0, "a launch with shared memory");
  auto y = out.get();
  for (int b = 0; b < 3; b++)
    for (int t = 0; t < 96; t++) check(y[b * 96 + t] == x[b * 96 + 95 - (t ^ 1)], "static and dynamic shared memory");
  check(poison.get()[0] == 1.0, "shared memory is poisoned");
  check(launch("selftest_shared", 3, 32, 3, 60000, {&dx.pointer, &out.pointer, &poison.pointer}) == 1, "too much shared memory is refused");
  void *function;
  call(cuda, "cuModuleGetFunction", &function, module_handle, (const char *)"selftest_shared");
  check(call(cuda, "cuFuncSetAttribute", function, 8, 100000) == 0, "a larger limit of shared memory");
  check(launch("selftest_shared", 3, 32, 3, 60000, {&dx.pointer, &out.pointer, &poison.pointer}) == 0, "then more is taken");
  check(call(cuda, "cuFuncSetAttribute", function, 8, 200000) == 1, "a limit beyond the device's");
}

static void test_wmma() {
  std::vector<uint16_t> a(256), b(256);
  for (auto &v : a) v = emulator::float_to_bf16(noise());
  for (auto &v : b) v = emulator::float_to_bf16(noise());
  Device<uint16_t> da(a), db(b);
  Device<float> out(4 * 256);
  check(launch("selftest_wmma", 1, 128, 1, 0, {&da.pointer, &db.pointer, &out.pointer}) == 0, "the launch of wmma");
  auto c = out.get();
  for (int which = 0; which < 4; which++)
    for (int i = 0; i < 16; i++)
      for (int j = 0; j < 16; j++) {
        double want = 1;
        for (int k = 0; k < 16; k++)
          want += double(emulator::bf16_to_float(which & 2 ? a[k * 16 + i] : a[i * 16 + k])) *
                  emulator::bf16_to_float(which & 1 ? b[j * 16 + k] : b[k * 16 + j]);
        float got = c[which * 256 + (which & 2 ? j * 16 + i : i * 16 + j)];
        check(std::fabs(got - 2 * want) < 1e-3, "wmma against loops");
      }
}

static void test_votes() {
  Device<unsigned> out(6 * 2 * 64);
  check(launch("selftest_votes", 2, 64, 1, 0, {&out.pointer}) == 0, "the launch of votes");
  auto v = out.get();
  for (unsigned i = 0; i < 128; i++) {
    unsigned t = i % 64, lane = t % 32, ballot = 0;
    for (unsigned l = 0; l < 32; l++) ballot |= unsigned((t / 32 * 32 + l) % 3 == 0) << l;
    const unsigned *mine = &v[6 * i];
    check(mine[0] == 32, "__syncthreads_count");
    check(mine[1] == ballot, "__ballot_sync");
    check(mine[2] == (lane < 28 ? t + 4 : t), "__shfl_down_sync");
    check(mine[3] == (t & ~15u) + 7, "__shfl_sync of doubles, by width");
    check(mine[4] == (lane < 16 ? 16 : 0), "a shuffle in half a warp");
    check(mine[5] == 64, "atomicAdd");
  }
}

// Rounding: the nearest of the two neighbours, and the even one between them.
static void test_rounding() {
  std::vector<float> x = {0.0f, -0.0f, 1.0f, 1.00390625f, 1.01171875f, 3.4e38f, INFINITY, -INFINITY, 65504.0f,
                          65519.0f, 65520.0f, 6e-8f, 2.9e-8f, 3.1e-8f, 1e-40f};
  for (int i = 0; i < 20000; i++) {
    uint32_t u = uint32_t(rand()) ^ uint32_t(rand()) << 16;
    float f = emulator::bits<float>(u);
    if (f == f) x.push_back(f);
  }
  int n = int(x.size());
  Device<float> dx(x);
  Device<uint16_t> db(n), dh(n);
  check(launch("selftest_round", 4, 64, 1, 0, {&dx.pointer, &db.pointer, &dh.pointer, &n}) == 0, "the launch of rounding");
  auto b = db.get(), h = dh.get();
  auto nearest = [](float x, uint16_t got, std::function<double(uint16_t)> value, uint16_t infinity, double limit) {
    if (std::isinf(x) || std::fabs(x) >= limit) return (got & 0x7fff) == infinity && (got >> 15) == std::signbit(x);
    if ((got >> 15) != std::signbit(x) || (got & 0x7fff) >= infinity) return false;
    uint16_t magnitude = got & 0x7fff;
    double error = std::fabs(value(magnitude) - std::fabs(x));
    double up = magnitude + 1 < infinity ? std::fabs(value(uint16_t(magnitude + 1)) - std::fabs(x)) : 1e300;
    double down = magnitude ? std::fabs(value(uint16_t(magnitude - 1)) - std::fabs(x)) : 1e300;
    return error <= up && error <= down && ((error < up && error < down) || magnitude % 2 == 0);
  };
  for (int i = 0; i < n; i++) {
    check(nearest(x[i], b[i], [](uint16_t u) { return double(emulator::bf16_to_float(u)); }, 0x7f80, 3.3961e38), "rounding to bf16");
    check(nearest(x[i], h[i], [](uint16_t u) { return double(emulator::half_to_float(u)); }, 0x7c00, 65520), "rounding to half");
  }
  check(b[3] == 0x3f80 && b[4] == 0x3f82, "ties go to even");
}

static void test_pipeline() {
  std::vector<float> x(64 * 4);
  for (float &v : x) v = noise();
  Device<float> dx(x), out(96 * 4);
  check(launch("selftest_pipeline", 1, 32, 1, 0, {&dx.pointer, &out.pointer}) == 0, "the launch of a pipeline");
  auto y = out.get();
  for (int i = 0; i < 256; i++) check(x[i] == y[i], "asynchronous copies");
  check(y[64 * 4] != y[64 * 4], "a copy arrives when it is waited for");
}

template <class T>
struct Format;
template <>
struct Format<float> {
  static constexpr int type = 0, compute = 68;
  static float from(float f) { return f; }
  static double to(float f) { return f; }
};
template <>
struct Format<double> {
  static constexpr int type = 1, compute = 70;
  static double from(float f) { return f; }
  static double to(double f) { return f; }
};
struct Bf16 { uint16_t x; };
template <>
struct Format<Bf16> {
  static constexpr int type = 14, compute = 68;
  static Bf16 from(float f) { return {emulator::float_to_bf16(f)}; }
  static double to(Bf16 b) { return emulator::bf16_to_float(b.x); }
};
struct Half { uint16_t x; };
template <>
struct Format<Half> {
  static constexpr int type = 2, compute = 68;
  static Half from(float f) { return {emulator::float_to_half(f)}; }
  static double to(Half b) { return emulator::half_to_float(b.x); }
};

template <class T, class C>
static void test_product(void *handle, int m, int n, int k, int batch) {
  using S = typename std::conditional<std::is_same<T, double>::value, double, float>::type;
  for (int ta = 0; ta < 2; ta++)
    for (int tb = 0; tb < 2; tb++)
      for (int b = 0; b < 2; b++) {
        int lda = (ta ? k : m) + 3, ldb = (tb ? n : k) + 1, ldc = m + 2;
        long long sa = (long long)lda * (ta ? m : k), sb = (long long)ldb * (tb ? k : n), sc = (long long)ldc * n;
        std::vector<T> a(sa * batch), bb(sb * batch);
        std::vector<C> c(sc * batch);
        for (auto &v : a) v = Format<T>::from(noise());
        for (auto &v : bb) v = Format<T>::from(noise());
        for (auto &v : c) v = Format<C>::from(b ? noise() : NAN);
        S alpha = S(0.5), beta = S(b ? 2 : 0);
        Device<T> da(a), db(bb);
        Device<C> dc(c);
        int code = call(cublas, "cublasGemmStridedBatchedEx", handle, ta, tb, m, n, k, (const void *)&alpha,
                        (const void *)da.pointer, Format<T>::type, lda, sa, (const void *)db.pointer, Format<T>::type, ldb, sb,
                        (const void *)&beta, (void *)dc.pointer, Format<C>::type, ldc, sc, batch, Format<T>::compute, 99);
        check(code == 0, "a product");
        auto got = dc.get();
        double worst = 0;
        for (int q = 0; q < batch; q++)
          for (int j = 0; j < n; j++)
            for (int i = 0; i < m; i++) {
              double want = 0, scale = 1;
              for (int p = 0; p < k; p++) {
                double x = Format<T>::to(a[sa * q + (ta ? (long long)i * lda + p : (long long)p * lda + i)]);
                double y = Format<T>::to(bb[sb * q + (tb ? (long long)p * ldb + j : (long long)j * ldb + p)]);
                want += x * y, scale += std::fabs(x * y);
              }
              want *= alpha;
              if (b) want += 2 * Format<C>::to(c[sc * q + (long long)j * ldc + i]);
              double error = std::fabs(Format<C>::to(got[sc * q + (long long)j * ldc + i]) - want) / (scale + std::fabs(want));
              worst = error == error ? std::max(worst, error) : 1e9;
            }
        check(worst < (sizeof(C) == 2 ? 5e-3 : 1e-6), "a product against loops");
      }
}

static void test_refusals() {
  void *function;
  check(call(cuda, "cuModuleGetFunction", &function, module_handle, (const char *)"selftest_nothing") == 500, "an unknown kernel");
  const char *text = nullptr;
  call(cuda, "cuGetErrorName", 500, &text);
  check(text && std::string(text) == "CUDA_ERROR_NOT_FOUND", "the name of an error");
  size_t unused, total;
  call(cuda, "cuMemGetInfo_v2", &unused, &total);
  Pointer p;
  check(call(cuda, "cuMemAlloc_v2", &p, unused + 1) == 2, "out of memory");
  check(call(cuda, "cuMemFree_v2", Pointer(4096)) == 1, "freeing what is not allocated");
  Device<float> small(8);
  float big[16];
  check(call(cuda, "cuMemcpyDtoH_v2", (void *)big, small.pointer, sizeof big) == 1, "a copy beyond its allocation");
  check(small.get()[3] != small.get()[3], "fresh memory is poisoned");
  check(launch("selftest_overrun", 1, 2048, 1, 0, {&small.pointer}) == 1, "too large a block");
  check(launch("selftest_overrun", 0, 32, 1, 0, {&small.pointer}) == 1, "an empty grid");
  check(aborts([&] {
          launch("selftest_overrun", 1, 32, 1, 0, {&small.pointer});
          call(cuda, "cuMemFree_v2", small.pointer);
        }), "a kernel that writes beyond an allocation");
  check(aborts([&] { launch("selftest_deadlock", 1, 8, 1, 0, {&small.pointer}); }), "a deadlock");
  check(aborts([&] { launch("selftest_misaligned", 1, 1, 1, 0, {&small.pointer}); }), "a misaligned access");
  check(aborts([&] { launch("selftest_bounds", 1, 33, 1, 0, {&small.pointer}); }), "an index beyond a shared array");
}

static void test_random() {
  void *generator;
  call(curand, "curandCreateGenerator", &generator, 100);
  call(curand, "curandSetPseudoRandomGeneratorSeed", generator, 7ull);
  Device<float> u(10000), n(10000);
  check(call(curand, "curandGenerateUniform", generator, (float *)u.pointer, size_t(10000)) == 0, "uniform numbers");
  // float arguments pass as float to a function of this exact type
  check(call(curand, "curandGenerateNormal", generator, (float *)n.pointer, size_t(10000), 3.0f, 2.0f) == 0, "normal numbers");
  double mean = 0, square = 0, low = 1, high = 0;
  for (float x : u.get()) low = std::min(low, double(x)), high = std::max(high, double(x));
  for (float x : n.get()) mean += x / 10000, square += x * x / 10000;
  check(low > 0 && low < 0.01 && high > 0.99 && high <= 1, "the range of uniform numbers");
  check(std::fabs(mean - 3) < 0.1 && std::fabs(square - mean * mean - 4) < 0.3, "mean and deviation of normal numbers");
}

static double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int main() {
  cuda = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
  cublas = dlopen("libcublas.so.13", RTLD_NOW | RTLD_GLOBAL);
  curand = dlopen("libcurand.so.10", RTLD_NOW | RTLD_GLOBAL);
  if (!cuda || !cublas || !curand) return printf("FAILED: %s\n", dlerror()), 1;
  void *context, *handle;
  check(call(cuda, "cuInit", 0u) == 0, "cuInit");
  check(call(cuda, "cuDevicePrimaryCtxRetain", &context, 0) == 0, "the context");
  call(cuda, "cuCtxSetCurrent", context);
  call(cuda, "cuModuleLoadData", &module_handle, (const void *)"no code");
  call(cublas, "cublasCreate_v2", &handle);

  uint64_t before[8], after[8];
  auto counts = reinterpret_cast<void (*)(uint64_t *)>(dlsym(cuda, "emulated_counts"));
  counts(before);
  test_sum();
  counts(after);
  check(after[0] - before[0] == 1 && after[1] - before[1] == 1 && after[2] - before[2] == 36, "the counts");
  check(after[6] == before[6] && after[7] > before[7], "the count of memory");
  test_shared();
  test_wmma();
  test_votes();
  test_rounding();
  test_pipeline();
  for (auto shape : {std::vector<int>{1, 1, 1, 1}, {5, 7, 3, 2}, {16, 6, 40, 1}, {33, 20, 300, 3}, {70, 13, 257, 1}}) {
    int m = shape[0], n = shape[1], k = shape[2], batch = shape[3];
    test_product<float, float>(handle, m, n, k, batch);
    test_product<double, double>(handle, m, n, k, batch);
    test_product<Bf16, Bf16>(handle, m, n, k, batch);
    test_product<Bf16, float>(handle, m, n, k, batch);
    test_product<Half, Half>(handle, m, n, k, batch);
  }
  test_refusals();
  test_random();
  test_streams();

  {
    size_t n = 1 << 22;
    Device<float> x(std::vector<float>(n, 1.0f)), y(n);
    double t = seconds();
    launch("selftest_identity", unsigned(n / 256), 256, 1, 0, {&x.pointer, &y.pointer, &n});
    printf("elementwise: %.1f ns a thread\n", (seconds() - t) * 1e9 / double(n));
    int count = int(n);
    t = seconds();
    launch("selftest_sum", unsigned(n / 256), 256, 1, 0, {&x.pointer, &y.pointer, &count});
    printf("sum with shuffles and a barrier: %.1f ns a thread\n", (seconds() - t) * 1e9 / double(n));
    float one = 1, zero = 0;
    int s = 1024;
    t = seconds();
    call(cublas, "cublasSgemm_v2", handle, 0, 0, s, s, s, (const float *)&one, (const float *)x.pointer, s,
         (const float *)y.pointer, s, (const float *)&zero, (float *)y.pointer, s);
    printf("product of 1024: %.1f GFLOP/s\n", 2e-9 * s * s * s / (seconds() - t));
  }
  printf("%d of %d checks failed\n", failures, checks);
  return failures != 0;
}
