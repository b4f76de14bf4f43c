// SPDX-License-Identifier: MIT
// What running a model on some machine will come to, for each way to hold its weights: whether it fits, which
// blocks stay on the device, and how fast it goes. Arithmetic alone; what a machine reaches is given.
//
// A sweep takes a group of batches through all blocks. Resident blocks are there; every other one comes once
// a sweep, into one of the slots, while the block before it computes:
//   GPU: seconds of a sweep = sum over blocks of max(copy of the block, compute of the group);
//   CPU: the copy is a read, and what was read is put into the layout that matmuls take, which computes.
#ifndef STRATA_MODEL_FORECAST_H
#define STRATA_MODEL_FORECAST_H

#include "model/cards.h"
#include "model/footprint.h"

// Bytes a second of reading weights again where nobody says: a careful figure for a solid-state disk.
#define FORECAST_DISK_ASSUMED 2e9

enum forecast_way { FORECAST_RESIDENT, FORECAST_HOST, FORECAST_DISK };

enum forecast_bound { // what a faster one of would make it faster
    FORECAST_COMPUTE,
    FORECAST_LINK,
    FORECAST_DISK_READS,
    FORECAST_DEVICE_MEMORY, // it does not fit, for want of it
    FORECAST_HOST_MEMORY,
};

struct forecast_machine {
    bool has_own_memory; // a GPU; else host memory is the device's
    uint64_t memory;     // of the device
    uint64_t in_use;     // of it, by others
    double target;       // share of what is free that may be taken
    uint64_t reserve;    // of that, left alone
    double rate;         // operations a second that its matmuls reach; 0: not known
    double bandwidth; // bytes a second that expanding packed weights reads and writes; 0: that is not counted
    double link;      // bytes a second from host memory
    double disk;      // bytes a second of reading weights again
    double conversion;    // CPU: bytes a second that are put into its layout; 0: that is not counted
    uint64_t host_memory; // 0: not known
};

struct forecast_work { // a problem set, or texts of one length
    uint64_t tokens;
    double squared_lengths; // sum of tokens^2 over texts
    double fill;            // tokens of texts, as a share of what the device computes
    size_t streamed_least;  // blocks that do not stay where a way streams, whatever there is room for
};

struct forecast {
    bool fits;
    enum forecast_bound bound;
    uint64_t budget; // bytes that may be taken on the device
    uint64_t used;   // of them, as planned; of what does not fit, needed at least
    struct footprint_batch batch;
    uint64_t resident_bytes;  // of blocks
    uint64_t streaming_bytes; // slots, and the reading ring of a CPU
    uint64_t residuals;       // of the group
    uint64_t head;            // of what texts go on from
    uint64_t host;            // pinned: blocks that stream from there, and staging
    size_t resident;          // blocks that stay on the device
    size_t group_tokens;      // in flight; 0: nothing streams
    size_t group;             // batches of a sweep likewise; fewer than in flight where a text in slices is
    size_t hiding_tokens;     // in flight that hide every copy; 0: nothing streams, or not known
    size_t most_tokens;       // the largest batch.tokens that fits this way; 0: none does
    double tokens_per_second; // 0: not known, or it does not fit
    double seconds;           // of all the work
};

// Batches are of these limits. `group_tokens`: of a sweep; 0: as many batches as hide the copies, if there is
// room.
void forecast_make(struct forecast *out, enum forecast_way way, const struct footprint *footprint,
                   const struct model_limits *limits, const struct forecast_machine *machine,
                   const struct forecast_work *work, size_t group_tokens);

// The speed alone, of a way that is known to fit: with so many blocks that stay, and so many tokens of a
// sweep (0: nothing streams). Fills both, bound, tokens_per_second and seconds.
void forecast_speed(struct forecast *out, enum forecast_way way, const struct footprint *footprint,
                    const struct model_limits *limits, const struct forecast_machine *machine,
                    const struct forecast_work *work, size_t resident, size_t group_tokens);

// What several such devices come to, which share batches (each has all that `one` has) or blocks (a batch
// goes from one to the next; all blocks are resident).
struct forecast_several {
    bool fits;
    size_t blocks;            // that stay on a device, at most
    uint64_t used;            // bytes of a device, at most
    double tokens_per_second; // 0: not known, or it does not fit
    double seconds;
};

// Each takes the group of `one` through a sweep.
void forecast_copies(struct forecast_several *out, const struct forecast *one,
                     const struct forecast_work *work, size_t devices);
void forecast_layers(struct forecast_several *out, const struct footprint *footprint,
                     const struct model_limits *limits, const struct forecast_machine *machine,
                     const struct forecast_work *work, size_t devices);

// The rates of a card, for computation in `dtype`: its assumed share of what is published.
void forecast_take_card(struct forecast_machine *machine, const struct card *card, enum dtype dtype);

const char *forecast_bound_name(enum forecast_bound bound); // "matrix rate", "PCIe" ...

#endif
