// Kernels by name, and their launch.
#pragma once

#include <algorithm>
#include <cstddef>
#include <map>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "fibers.hpp"

namespace emulator {

struct Kernel {
  const char *name;
  void (*body)(void **);  // one thread of it
  size_t parameters;
  const size_t *sizes;  // of each parameter, in bytes
};

inline std::map<std::string, const Kernel *> &kernels() {
  static auto *table = new std::map<std::string, const Kernel *>;  // outlives every caller
  return *table;
}

struct Registration {
  template <size_t N>
  explicit Registration(const Kernel (&table)[N]) {
    for (const Kernel &kernel : table)
      kernels().emplace(kernel.name, &kernel);  // of two with one name the first one counts
  }
};

template <auto kernel>
struct Entry;
template <class... Parameters, void (*kernel)(Parameters...)>
struct Entry<kernel> {
  static constexpr size_t count = sizeof...(Parameters);
  static constexpr size_t sizes[count + 1] = {sizeof(Parameters)..., 0};
  template <size_t... I>
  static void call(void **params, std::index_sequence<I...>) {
    kernel(*static_cast<typename std::remove_cv<Parameters>::type *>(params[I])...);
  }
  static void body(void **params) { call(params, std::index_sequence_for<Parameters...>()); }
};

// EMULATED_ORDER: forward (default), reverse, or a number that seeds a shuffle. It is the
// order in which the threads of a block, and the blocks of a grid, begin.
struct Order {
  bool reverse = false, shuffle = false;
  std::mt19937 random;
  Order() {
    const char *text = getenv("EMULATED_ORDER");
    if (!text || !*text || !strcmp(text, "forward")) return;
    if (!strcmp(text, "reverse")) reverse = true;
    else shuffle = true, random.seed(unsigned(atol(text)));
  }
  void fill(std::vector<unsigned> &order, unsigned n) {
    order.resize(n);
    for (unsigned i = 0; i < n; i++) order[i] = reverse ? n - 1 - i : i;
    if (shuffle) std::shuffle(order.begin(), order.end(), random);
  }
};

// A kernel's parameters, kept until it runs.
struct Arguments {
  std::vector<std::max_align_t> bytes;
  std::vector<void *> pointers;

  Arguments(const Kernel &kernel, void **params) : pointers(kernel.parameters) {
    auto slots = [&](size_t i) { return (kernel.sizes[i] + sizeof(std::max_align_t) - 1) / sizeof(std::max_align_t); };
    size_t total = 0;
    for (size_t i = 0; i < kernel.parameters; i++) total += slots(i);
    bytes.resize(total);
    for (size_t i = 0, at = 0; i < kernel.parameters; at += slots(i++)) {
      pointers[i] = &bytes[at];
      memcpy(pointers[i], params[i], kernel.sizes[i]);
    }
  }
};

inline void launch(const Kernel &kernel, dim3 grid, dim3 size, size_t dynamic_bytes, void **params) {
  static Order order;
  static std::vector<unsigned> threads, blocks;
  block.kernel = kernel.name;
  block.body = kernel.body;
  block.params = params;
  block.size = size.x * size.y * size.z;
  gridDim = grid;
  blockDim = size;
  size_t count = size_t(grid.x) * grid.y * grid.z;
  bool plain = !order.reverse && !order.shuffle;
  if (!plain) order.fill(blocks, unsigned(count));
  for (size_t i = 0; i < count; i++) {
    if (!plain) order.fill(threads, block.size);
    block.order = plain ? nullptr : threads.data();
    size_t at = plain ? i : blocks[i];
    run_block({unsigned(at % grid.x), unsigned(at / grid.x % grid.y), unsigned(at / grid.x / grid.y)}, dynamic_bytes);
  }
  block.kernel = nullptr;
}

}  // namespace emulator
