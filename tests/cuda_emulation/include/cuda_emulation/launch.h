// SPDX-License-Identifier: MIT
// The emulation's part of kernels/cuda/launch.h: LAUNCH and SHARED_BYTES.
#ifndef STRATA_CUDA_EMULATION_LAUNCH_H
#define STRATA_CUDA_EMULATION_LAUNCH_H

#include <functional>
#include <tuple>
#include <utility>

#include "cuda_emulation/language.h"

// Queues a kernel. `run` is what one thread does.
cudaError_t emulation_queue_launch(const char *name, const void *kernel, dim3 grid, dim3 block,
                                   size_t shared_bytes, cudaStream_t stream, std::function<void()> run);

// A kernel's pointers point into device memory or nowhere: asked when it is launched.
void emulation_check_argument(const char *kernel, int number, const void *pointer);

template <class T> static inline void emulation_check(const char *, int, const T &) {
}
template <class T> static inline void emulation_check(const char *kernel, int number, T *const &pointer) {
    emulation_check_argument(kernel, number, reinterpret_cast<const void *>(pointer));
}

template <class... Parameters, class... Arguments>
static inline cudaError_t emulation_launch(const char *name, void (*kernel)(Parameters...), dim3 grid,
                                           dim3 block, size_t shared_bytes, cudaStream_t stream,
                                           Arguments... given) {
    static_assert(sizeof...(Parameters) == sizeof...(Arguments),
                  "a kernel takes as many arguments as it has");
    std::tuple<Parameters...> arguments(static_cast<Parameters>(given)...); // copied now, as a launch does
    int number = 0;
    std::apply([&](const auto &...each) { (emulation_check(name, ++number, each), ...); }, arguments);
    return emulation_queue_launch(name, reinterpret_cast<const void *>(kernel), grid, block, shared_bytes,
                                  stream, [kernel, arguments] { std::apply(kernel, arguments); });
}

#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                               \
    emulation_launch(#kernel, kernel, grid, block, shared_bytes, stream, ##__VA_ARGS__)

// The block's dynamic shared memory: as many bytes as the launch asked for, a byte more is caught.
unsigned char *emulation_shared_bytes(void);
#define SHARED_BYTES(name) unsigned char *name = emulation_shared_bytes()

#endif
