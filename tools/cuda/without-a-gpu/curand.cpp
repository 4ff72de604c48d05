// libcurand.so.10: random numbers. Not the device's numbers, only their distributions.

#include <dlfcn.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace emulated_curand {

enum Status { SUCCESS = 0, NOT_INITIALIZED = 101, LENGTH_NOT_MULTIPLE = 105, LAUNCH_FAILURE = 201 };

struct Generator {
  void *stream = nullptr;
  std::mt19937_64 engine;
  // In (0, 1], as the device's.
  double uniform() { return (double(engine() >> 11) + 1.0) * 0x1p-53; }
};

// Has numbers put where they belong in the order of the generator's stream.
template <class T>
Status deliver(Generator *g, T *out, std::vector<T> numbers) {
  struct Delivery {
    T *out;
    std::vector<T> numbers;
  };
  using Launch = int (*)(void *stream, void (*run)(void *), void *data);
  static auto launch = reinterpret_cast<Launch>(dlsym(dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL), "emulated_launch"));
  auto *data = new Delivery{out, std::move(numbers)};
  auto run = [](void *data) {
    auto *d = static_cast<Delivery *>(data);
    memcpy(d->out, d->numbers.data(), d->numbers.size() * sizeof(T));
    delete d;
  };
  if (launch(g->stream, run, data) == 0) return SUCCESS;
  return delete data, LAUNCH_FAILURE;
}

template <class T>
Status uniform(Generator *g, T *out, size_t n) {
  if (!g) return NOT_INITIALIZED;
  std::vector<T> numbers(n);
  for (T &number : numbers) {
    T value = T(g->uniform());
    number = value > 0 ? value : T(1);
  }
  return deliver(g, out, std::move(numbers));
}

template <class T>
Status normal(Generator *g, T *out, size_t n, double mean, double deviation, bool logarithmic) {
  if (!g) return NOT_INITIALIZED;
  if (n % 2) return LENGTH_NOT_MULTIPLE;  // the device makes them in pairs
  std::vector<T> numbers(n);
  for (size_t i = 0; i < n; i += 2) {
    double radius = std::sqrt(-2.0 * std::log(g->uniform())), angle = 6.28318530717958647692 * g->uniform();
    for (int j = 0; j < 2; j++) {
      double value = mean + deviation * radius * (j ? std::sin(angle) : std::cos(angle));
      numbers[i + size_t(j)] = T(logarithmic ? std::exp(value) : value);
    }
  }
  return deliver(g, out, std::move(numbers));
}

}  // namespace emulated_curand
using namespace emulated_curand;

EXPORT Status curandCreateGenerator(Generator **g, int) { return *g = new Generator, SUCCESS; }
EXPORT Status curandDestroyGenerator(Generator *g) { return delete g, SUCCESS; }
EXPORT Status curandSetPseudoRandomGeneratorSeed(Generator *g, unsigned long long seed) { return g->engine.seed(seed), SUCCESS; }
EXPORT Status curandSetGeneratorOffset(Generator *g, unsigned long long offset) { return g->engine.discard(offset), SUCCESS; }
EXPORT Status curandSetStream(Generator *g, void *stream) { return g->stream = stream, SUCCESS; }
EXPORT Status curandGetVersion(int *version) { return *version = 10400, SUCCESS; }
EXPORT Status curandGenerate(Generator *g, uint32_t *out, size_t n) {
  std::vector<uint32_t> numbers(n);
  for (uint32_t &number : numbers) number = uint32_t(g->engine() >> 32);
  return deliver(g, out, std::move(numbers));
}
EXPORT Status curandGenerateUniform(Generator *g, float *out, size_t n) { return uniform(g, out, n); }
EXPORT Status curandGenerateUniformDouble(Generator *g, double *out, size_t n) { return uniform(g, out, n); }
EXPORT Status curandGenerateNormal(Generator *g, float *out, size_t n, float mean, float deviation) {
  return normal(g, out, n, mean, deviation, false);
}
EXPORT Status curandGenerateNormalDouble(Generator *g, double *out, size_t n, double mean, double deviation) {
  return normal(g, out, n, mean, deviation, false);
}
EXPORT Status curandGenerateLogNormal(Generator *g, float *out, size_t n, float mean, float deviation) {
  return normal(g, out, n, mean, deviation, true);
}
EXPORT Status curandGenerateLogNormalDouble(Generator *g, double *out, size_t n, double mean, double deviation) {
  return normal(g, out, n, mean, deviation, true);
}
