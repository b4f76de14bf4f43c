// SPDX-License-Identifier: MIT
// On what a run computed, in order: the device of its identity, then those that took over where the job
// allowed another CPU path. Latents on the two sides of such a change may differ in bits. The first is a part
// of the run's identity and never changes; those that follow are a note of the ledger. Every shard is
// computed on one device from its first batch to its last.
#ifndef STRATA_CHECKPOINTS_DEVICE_TRAIL_H
#define STRATA_CHECKPOINTS_DEVICE_TRAIL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"
#include "checkpoints/ledger.h"

enum { DEVICE_TRAIL_IDENTITY = 512, DEVICE_TRAIL_PATH = 32 };

struct device_trail_entry {
    uint64_t first_batch;
    char identity[DEVICE_TRAIL_IDENTITY]; // as the device describes itself: "cpu path=avx2 kernels=1"
};

struct device_trail {
    struct device_trail_entry *entries;
    size_t count; // 0: the run has not begun
};

// The caller destroys *trail, also after a failure. STATUS_DATA when the note is damaged.
int device_trail_read(struct device_trail *trail, struct ledger *ledger, struct error *err);
void device_trail_destroy(struct device_trail *trail); // accepts zeros; leaves zeros

// What computed last, and what computed a batch; NULL when the trail is empty.
const struct device_trail_entry *device_trail_last(const struct device_trail *trail);
const struct device_trail_entry *device_trail_at(const struct device_trail *trail, uint64_t batch);

// Another device goes on at `first_batch`, the next to be sealed. Entries that no sealed batch came from are
// forgotten.
int device_trail_follow(struct device_trail *trail, uint64_t first_batch, const char *identity,
                        struct error *err);

// Keeps all but the first entry in the ledger.
int device_trail_write(const struct device_trail *trail, struct ledger *ledger, struct error *err);

// True when batches come from more than one device.
bool device_trail_changed(const struct device_trail *trail);

// Appends the CPU paths as people read them: "avx512bf16, avx2 from batch 12".
int device_trail_describe(const struct device_trail *trail, struct buffer *out, struct error *err);

// Appends the entries after the first, one line each: what distinguishes the shards that follow a change.
int device_trail_text(const struct device_trail *trail, struct buffer *out, struct error *err);

// The CPU path that a device's identity names, or "".
void device_trail_path(const char *identity, char out[DEVICE_TRAIL_PATH]);

// Whether two identities are those of CPUs, alike in everything but the path.
bool device_trail_only_path_differs(const char *one, const char *other);

#endif
