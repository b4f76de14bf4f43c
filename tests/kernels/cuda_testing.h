// SPDX-License-Identifier: MIT
// What the tests of the CUDA back end share: each case runs in a process of its own, because the emulated
// driver reads its settings once (tests/cuda_emulation/README.md) and keeps a fault for good.
#ifndef STRATA_TESTS_KERNELS_CUDA_TESTING_H
#define STRATA_TESTS_KERNELS_CUDA_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/dtype.h"
#include "kernels/operations.h"
#include "kernels/telemetry.h"
#include "kernels/weight_format.h"

// Ends the child with a line that says where.
#define REQUIRE(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                  \
            _exit(1);                                                                                        \
        }                                                                                                    \
    } while (0)

#define MUST(call)                                                                                           \
    do {                                                                                                     \
        if ((call) != STATUS_OK) {                                                                           \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, rig->error.message);               \
            _exit(1);                                                                                        \
        }                                                                                                    \
    } while (0)

// The call fails with this status and says this.
#define REFUSED(call, expected, text)                                                                        \
    do {                                                                                                     \
        int refused = (call);                                                                                \
        if (refused != (expected) || strstr(rig->error.message, (text)) == NULL) {                           \
            fprintf(stderr, "%s:%d: %s: %d: %s\n", __FILE__, __LINE__, #call, refused, rig->error.message);  \
            _exit(1);                                                                                        \
        }                                                                                                    \
    } while (0)

struct rig {
    struct device *device;
    enum dtype dtype;
    struct error error;
};

enum { RIG_BYTES = 1 << 20, RIG_TOKENS = 40 };

static inline struct device_plan rig_plan(void) {
    struct device_plan plan = {.tokens = RIG_TOKENS};
    for (int p = 0; p < DEVICE_PURPOSES; p++) {
        plan.bytes[p] = RIG_BYTES;
    }
    return plan;
}

static inline void rig_open_on(struct rig *rig, const char *name, enum dtype dtype) {
    struct device_options options = {.dtype = dtype};
    *rig = (struct rig){.dtype = dtype};
    MUST(device_open(&rig->device, name, &options, &rig->error));
}

static inline void rig_open(struct rig *rig, enum dtype dtype) {
    rig_open_on(rig, "cuda:0", dtype);
}

static inline void rig_reserve(struct rig *rig) {
    struct device_plan plan = rig_plan();
    MUST(device_reserve(rig->device, &plan, &rig->error));
}

static inline void *rig_take(struct rig *rig, enum device_purpose purpose, size_t bytes) {
    void *out;
    MUST(device_take(rig->device, purpose, bytes, &out, &rig->error));
    return out;
}

static inline void rig_finish(struct rig *rig) {
    struct device_fence fence;
    MUST(device_fence(rig->device, &fence, &rig->error));
    MUST(device_wait(rig->device, fence, NULL, &rig->error));
}

// Runs a case in a child with settings, "NAME=value" without the prefix, separated by blanks.
static inline void in_child(const char *settings, void (*test)(struct rig *rig)) {
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char text[256];
        char *rest = NULL;
        snprintf(text, sizeof text, "%s", settings);
        for (char *one = strtok_r(text, " ", &rest); one != NULL; one = strtok_r(NULL, " ", &rest)) {
            char name[64];
            char *value = strchr(one, '=');
            *value = 0;
            snprintf(name, sizeof name, "CUDA_EMULATION_%s", one);
            setenv(name, value + 1, 1);
        }
        struct rig rig = {.device = NULL};
        test(&rig);
        device_close(rig.device);
        exit(0); // sanitizers look for leaks on the way
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fail_msg("with settings '%s' the child ended with status %#x", settings, (unsigned)status);
    }
}

#endif
