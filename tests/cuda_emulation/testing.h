// SPDX-License-Identifier: MIT
// What the emulation's own tests share.
#ifndef STRATA_CUDA_EMULATION_TESTING_H
#define STRATA_CUDA_EMULATION_TESTING_H

#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

extern "C" {
#include <cmocka.h>
}

#include "kernels/cuda/launch.h"

#define MUST(call) assert_string_equal(cudaGetErrorName(call), "cudaSuccess")

template <class T> static inline T *device_numbers(size_t count) {
    void *pointer = nullptr;
    MUST(cudaMalloc(&pointer, count * sizeof(T)));
    return static_cast<T *>(pointer);
}

template <class T> static inline T *pinned_numbers(size_t count) {
    void *pointer = nullptr;
    MUST(cudaMallocHost(&pointer, count * sizeof(T)));
    return static_cast<T *>(pointer);
}

template <class T> static inline std::vector<T> fetched(const T *device, size_t count) {
    std::vector<T> numbers(count);
    MUST(cudaMemcpy(numbers.data(), device, count * sizeof(T), cudaMemcpyDeviceToHost));
    return numbers;
}

// How a child ended that did `work` with these settings in its environment ("NAME=value", without the
// prefix): "exit N" or "signal N", and what it wrote to stderr.
struct Ending {
    std::string how;
    std::string said;
};

template <class Work> static inline Ending in_child(const std::vector<std::string> &settings, Work work) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    fflush(nullptr);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        signal(SIGABRT, SIG_DFL);
        signal(SIGSEGV, SIG_DFL);
        for (const std::string &each : settings) {
            putenv(strdup(("CUDA_EMULATION_" + each).c_str()));
        }
        _exit(work());
    }
    close(ends[1]);
    Ending ending;
    char text[512];
    for (ssize_t got; (got = read(ends[0], text, sizeof text)) > 0;) {
        ending.said.append(text, static_cast<size_t>(got));
    }
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    ending.how = WIFEXITED(status) ? "exit " + std::to_string(WEXITSTATUS(status))
                                   : "signal " + std::to_string(WTERMSIG(status));
    return ending;
}

static inline void assert_said(const Ending &ending, const char *text) {
    if (ending.said.find(text) == std::string::npos) {
        fail_msg("ended by %s and said: %s", ending.how.c_str(), ending.said.c_str());
    }
}

#endif
