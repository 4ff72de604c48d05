// What the parts of the emulator's own test have in common.
#pragma once

#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

inline void *cuda, *cublas, *curand;  // the libraries
inline int failures = 0, checks = 0;

inline void check(bool good, const char *what) {
  checks++;
  if (good) return;
  failures++;
  printf("FAILED: %s\n", what);
}

// A function of a library by name; every argument must have its exact type.
template <class... A>
int call(void *library, const char *name, A... arguments) {
  auto *f = reinterpret_cast<int (*)(A...)>(dlsym(library, name));
  if (!f) {
    printf("FAILED: no %s\n", name);
    exit(1);
  }
  return f(arguments...);
}

using Pointer = unsigned long long;

template <class T>
struct Device {
  Pointer pointer = 0;
  size_t n;
  explicit Device(size_t n) : n(n) { check(call(cuda, "cuMemAlloc_v2", &pointer, n * sizeof(T)) == 0, "an allocation"); }
  explicit Device(const std::vector<T> &v) : Device(v.size()) {
    check(call(cuda, "cuMemcpyHtoD_v2", pointer, (const void *)v.data(), n * sizeof(T)) == 0, "a copy to the device");
  }
  ~Device() { call(cuda, "cuMemFree_v2", pointer); }
  std::vector<T> get() const {
    std::vector<T> v(n);
    check(call(cuda, "cuMemcpyDtoH_v2", (void *)v.data(), pointer, n * sizeof(T)) == 0, "a copy to the host");
    return v;
  }
};

inline void *module_handle;
inline int launch(const char *name, unsigned grid, unsigned bx, unsigned by, unsigned shared, std::vector<void *> params,
                  void *stream = nullptr) {
  void *function = nullptr;
  int code = call(cuda, "cuModuleGetFunction", &function, module_handle, name);
  if (code) return code;
  return call(cuda, "cuLaunchKernel", function, grid, 1u, 1u, bx, by, 1u, shared, stream, params.data(), (void **)nullptr);
}

// Runs in a child what must abort.
inline bool aborts(std::function<void()> f) {
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    if (!freopen("/dev/null", "w", stderr)) _exit(2);
    f();
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

void test_streams();
