// SPDX-License-Identifier: MIT
#include "model/forecast.h"

#include <math.h>

#include "base/size.h"
#include "model/block.h"

enum {
    TOKENS_UNIT = 256,     // that the largest batch is told in
    TOKENS_MOST = 1 << 22, // of batch.tokens
    GROUP_MOST = 1 << 24,  // tokens in flight
    GPU_SLOTS = 2,
};

// ---- the parts of a forecast ----

struct forecasting {
    enum forecast_way way;
    const struct footprint *footprint;
    const struct forecast_machine *machine;
    const struct forecast_work *work;
};

static double added(uint64_t a, uint64_t b) {
    return (double)a + (double)b;
}

// Operations of a token in a block, with the attention of texts as long as the work's.
static double block_operations(const struct forecasting *f, size_t block) {
    uint64_t tokens = f->work->tokens > 0 ? f->work->tokens : 1;
    return block_flops(f->footprint->config, block, tokens, f->work->squared_lengths) / (double)tokens;
}

// Seconds that a token of a text takes in a block.
static double token_seconds(const struct forecasting *f, size_t block) {
    return block_operations(f, block) / (f->machine->rate * f->work->fill);
}

// Seconds of the head, which a sweep of blocks that stream computes for its batches.
static double head_seconds(const struct forecasting *f, size_t block, size_t head) {
    double operations = block_flops(f->footprint->config, block, head, (double)head * (double)head);
    return operations / (f->machine->rate * f->work->fill);
}

// Seconds before each batch: what is kept packed is read, and written as computed.
static double expanding_seconds(const struct forecasting *f, size_t block) {
    const struct footprint_block *b = &f->footprint->block[block];
    return f->machine->bandwidth > 0 && b->expanded > 0 ? added(b->held, b->expanded) / f->machine->bandwidth
                                                        : 0;
}

// Seconds in which a block that is not there comes, beside the computing of another.
static double reading_seconds(const struct forecasting *f, size_t block) {
    const struct footprint_block *b = &f->footprint->block[block];
    return f->way == FORECAST_DISK ? (double)b->file / f->machine->disk : 0;
}

static double linking_seconds(const struct forecasting *f, size_t block) {
    return f->machine->has_own_memory ? (double)f->footprint->block[block].held / f->machine->link : 0;
}

static double copy_seconds(const struct forecasting *f, size_t block) {
    return fmax(reading_seconds(f, block), linking_seconds(f, block));
}

// Seconds that the processor takes for a block that was read.
static double converting_seconds(const struct forecasting *f, size_t block) {
    const struct forecast_machine *m = f->machine;
    return m->has_own_memory || m->conversion <= 0 ? 0
                                                   : (double)f->footprint->block[block].held / m->conversion;
}

// ---- memory ----

static uint64_t budget_of(const struct forecast_machine *machine) {
    uint64_t free = machine->memory > machine->in_use ? machine->memory - machine->in_use : 0;
    double part = machine->target * (double)free;
    return part > (double)machine->reserve ? (uint64_t)part - machine->reserve : 0;
}

// Beside blocks, slots and the residuals of other batches, or of a text's other slices.
static double fixed_bytes(const struct footprint *footprint, const struct footprint_batch *batch,
                          bool has_own_memory, bool streams) {
    double sum = added(footprint->embedding, footprint->final_norm) + (double)footprint->expansion +
                 added(batch->activations, batch->scratch) +
                 (double)(streams ? batch->head_streamed : batch->head);
    return has_own_memory ? sum : sum + (double)batch->staging;
}

static double slot_bytes(const struct forecasting *f) {
    const struct footprint_block *b = &f->footprint->most;
    return f->machine->has_own_memory ? GPU_SLOTS * (double)b->held : added(b->held, b->file);
}

static struct footprint_batch batch_of(const struct forecasting *f, const struct model_limits *limits,
                                       size_t tokens) {
    struct footprint_batch batch;
    struct model_limits smaller = *limits;
    smaller.tokens = tokens;
    smaller.texts = size_min(limits->texts, tokens);
    if (limits->longest_own == 0) { // else a batch may have more rows than tokens
        smaller.rows = size_min(limits->rows, size_max(tokens, limits->longest));
    }
    footprint_of_batch(&batch, f->footprint->config, f->footprint->dtype, &smaller,
                       f->machine->has_own_memory);
    return batch;
}

// Of a sweep with a single batch, or with the longest text.
static double least_residuals(const struct forecasting *f, const struct footprint_batch *batch,
                              size_t tokens) {
    double token = (double)footprint_residual(f->footprint->config, f->footprint->dtype);
    return (double)tokens * token + (double)batch->residuals;
}

// The least that this way takes for batches of so many tokens.
static double least_bytes(const struct forecasting *f, const struct model_limits *limits, size_t tokens) {
    struct footprint_batch batch = batch_of(f, limits, tokens);
    bool own = f->machine->has_own_memory;
    double all =
        fixed_bytes(f->footprint, &batch, own, false) + added(f->footprint->all_blocks, batch.residuals);
    if (f->way == FORECAST_RESIDENT || f->footprint->blocks == 0) {
        return all;
    }
    return fmin(fixed_bytes(f->footprint, &batch, own, true) + slot_bytes(f) +
                    least_residuals(f, &batch, tokens),
                all);
}

static size_t largest_batch(const struct forecasting *f, const struct model_limits *limits, uint64_t budget) {
    size_t low = 0;
    size_t high = TOKENS_MOST / TOKENS_UNIT + 1;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        bool fits = least_bytes(f, limits, middle * TOKENS_UNIT) <= (double)budget;
        low = fits ? middle : low;
        high = fits ? high : middle;
    }
    return low * TOKENS_UNIT;
}

// ---- the group ----

// Tokens whose computing in a block takes as long as the copy of one.
static double hiding_tokens(const struct forecasting *f) {
    double tokens = 0;
    if (f->machine->rate <= 0) {
        return 0;
    }
    for (size_t i = 0; i < f->footprint->blocks; i++) {
        double uncovered = copy_seconds(f, i) - converting_seconds(f, i);
        tokens = fmax(tokens, uncovered / token_seconds(f, i));
    }
    return fmin(ceil(tokens), GROUP_MOST);
}

static size_t whole_batches(double tokens, size_t batch) {
    size_t batches = (size_t)ceil(tokens / (double)batch);
    return size_max(batches, 1) * batch;
}

// ---- time ----

// Seconds of a sweep; whether some block waits for its copy.
static double sweep_seconds(const struct forecasting *f, size_t resident, size_t group,
                            const struct model_limits *limits, bool *waits) {
    double seconds = 0;
    double batches = (double)group / (double)limits->tokens;
    size_t head = resident < f->footprint->blocks ? limits->head : 0;
    *waits = false;
    for (size_t i = 0; i < f->footprint->blocks; i++) {
        double computing = (double)group * token_seconds(f, i) + head_seconds(f, i, head) +
                           batches * expanding_seconds(f, i);
        if (i >= resident) {
            double copying = copy_seconds(f, i);
            computing += converting_seconds(f, i);
            *waits = *waits || copying > computing;
            computing = fmax(copying, computing);
        }
        seconds += computing;
    }
    return seconds;
}

static void tell_time(struct forecast *out, const struct forecasting *f, const struct model_limits *limits) {
    bool waits;
    size_t group = out->group_tokens > 0 ? out->group_tokens : limits->tokens;
    if (f->machine->rate <= 0 || f->footprint->blocks == 0) {
        return;
    }
    double seconds = sweep_seconds(f, out->resident, group, limits, &waits);
    out->tokens_per_second = seconds > 0 ? (double)group / seconds : 0;
    out->seconds = out->tokens_per_second > 0 ? (double)f->work->tokens / out->tokens_per_second : 0;
    if (waits) {
        size_t last = f->footprint->blocks - 1;
        out->bound =
            reading_seconds(f, last) > linking_seconds(f, last) ? FORECAST_DISK_READS : FORECAST_LINK;
    }
}

// ---- what goes where ----

static bool refuse(struct forecast *out, enum forecast_bound bound, double needed) {
    out->fits = false;
    out->bound = bound;
    out->used = needed < (double)UINT64_MAX ? (uint64_t)needed : UINT64_MAX;
    return false;
}

static bool place_all(struct forecast *out, const struct forecasting *f, double fixed) {
    double needed = fixed + added(f->footprint->all_blocks, out->batch.residuals);
    if (needed > (double)out->budget) {
        return refuse(out, FORECAST_DEVICE_MEMORY, needed);
    }
    out->residuals = out->batch.residuals;
    out->resident = f->footprint->blocks;
    out->resident_bytes = f->footprint->all_blocks;
    out->used = (uint64_t)needed;
    return true;
}

// Two slots take an even number of streamed blocks (start/placement.h): the first one comes into another slot
// than the last one computes from.
static bool turns_evenly(const struct forecasting *f, size_t resident) {
    return !f->machine->has_own_memory || resident == 0 || (f->footprint->blocks - resident) % 2 == 0;
}

static size_t most_resident(const struct forecasting *f) {
    return f->footprint->blocks - size_min(size_max(f->work->streamed_least, 1), f->footprint->blocks);
}

// As many blocks as fit beside the slots and the group.
static bool place_some(struct forecast *out, const struct forecasting *f, size_t batch, double fixed,
                       size_t group) {
    double token = (double)footprint_residual(f->footprint->config, f->footprint->dtype);
    double slots = slot_bytes(f);
    double room = (double)out->budget - fixed - slots;
    double least = least_residuals(f, &out->batch, batch);
    double wanted = group > 0 ? (double)group : hiding_tokens(f);
    out->group_tokens = whole_batches(fmax(wanted, floor(least / token)), batch);
    if (room < (double)out->group_tokens * token) {
        size_t most = room > 0 ? (size_t)(room / token) / batch * batch : 0;
        if (room < least) {
            return refuse(out, FORECAST_DEVICE_MEMORY, fixed + slots + least);
        }
        out->group_tokens = most;
    }
    out->group = size_min(whole_batches(wanted, batch), out->group_tokens) / batch;
    out->hiding_tokens = (size_t)hiding_tokens(f);
    out->residuals = (uint64_t)((double)out->group_tokens * token);
    out->streaming_bytes = (uint64_t)slots;
    room -= (double)out->residuals;
    size_t most = most_resident(f);
    while (out->resident < most &&
           added(out->resident_bytes, f->footprint->block[out->resident].held) <= room) {
        out->resident_bytes += f->footprint->block[out->resident++].held;
    }
    while (!turns_evenly(f, out->resident)) {
        out->resident_bytes -= f->footprint->block[--out->resident].held;
    }
    out->used = (uint64_t)(fixed + slots + added(out->residuals, out->resident_bytes));
    return true;
}

// Outputs are kept for a group that is computed, the next one and one as long that only measures;
// limits->slots are those of single batches.
static bool fits_host(struct forecast *out, const struct forecasting *f, const struct model_limits *limits) {
    const struct forecast_machine *m = f->machine;
    if (!m->has_own_memory) {
        return true;
    }
    if (out->group > 1) {
        double slot = (double)out->batch.staging / (double)size_max(limits->slots, 1);
        out->batch.staging = (uint64_t)(slot * (double)(3 * out->group + 1));
    }
    out->host = out->batch.staging;
    if (f->way == FORECAST_HOST) {
        out->host += f->footprint->all_blocks - out->resident_bytes;
    }
    if (m->host_memory > 0 && out->host > m->host_memory) {
        out->fits = false;
        out->bound = FORECAST_HOST_MEMORY;
    }
    return out->fits;
}

void forecast_make(struct forecast *out, enum forecast_way way, const struct footprint *footprint,
                   const struct model_limits *limits, const struct forecast_machine *machine,
                   const struct forecast_work *work, size_t group_tokens) {
    struct forecasting f = {way, footprint, machine, work};
    *out = (struct forecast){.fits = true, .bound = FORECAST_COMPUTE, .budget = budget_of(machine)};
    out->batch = batch_of(&f, limits, limits->tokens);
    out->most_tokens = largest_batch(&f, limits, out->budget);
    double fixed = fixed_bytes(footprint, &out->batch, machine->has_own_memory, false);
    double whole = fixed + added(footprint->all_blocks, out->batch.residuals);
    bool streams = way != FORECAST_RESIDENT && footprint->blocks > 0;
    bool all = !streams || (work->streamed_least == 0 && whole <= (double)out->budget);
    out->head = all ? out->batch.head : out->batch.head_streamed;
    double streaming = fixed_bytes(footprint, &out->batch, machine->has_own_memory, true);
    bool placed =
        all ? place_all(out, &f, fixed) : place_some(out, &f, limits->tokens, streaming, group_tokens);
    if (placed && fits_host(out, &f, limits)) {
        tell_time(out, &f, limits);
    }
}

void forecast_speed(struct forecast *out, enum forecast_way way, const struct footprint *footprint,
                    const struct model_limits *limits, const struct forecast_machine *machine,
                    const struct forecast_work *work, size_t resident, size_t group_tokens) {
    struct forecasting f = {way, footprint, machine, work};
    *out = (struct forecast){
        .fits = true, .bound = FORECAST_COMPUTE, .resident = resident, .group_tokens = group_tokens};
    tell_time(out, &f, limits);
}

// ---- several devices ----

static void tell_rate(struct forecast_several *out, const struct forecast_work *work, double rate) {
    out->tokens_per_second = rate;
    out->seconds = rate > 0 ? (double)work->tokens / rate : 0;
}

// A block is read once for all of them, and each takes its own group through it: the sweep lasts as long as
// that of one, whatever it waits for.
void forecast_copies(struct forecast_several *out, const struct forecast *one,
                     const struct forecast_work *work, size_t devices) {
    *out = (struct forecast_several){.fits = one->fits, .blocks = one->resident, .used = one->used};
    if (one->fits) {
        tell_rate(out, work, (double)devices * one->tokens_per_second);
    }
}

// The device with the most blocks is the one that the others wait for.
void forecast_layers(struct forecast_several *out, const struct footprint *footprint,
                     const struct model_limits *limits, const struct forecast_machine *machine,
                     const struct forecast_work *work, size_t devices) {
    struct forecasting f = {FORECAST_RESIDENT, footprint, machine, work};
    struct footprint_batch batch = batch_of(&f, limits, limits->tokens);
    bool waits;
    size_t blocks = (footprint->blocks + devices - 1) / devices;
    double used = fixed_bytes(footprint, &batch, machine->has_own_memory, false) +
                  (double)blocks * (double)footprint->most.held + (double)batch.residuals;
    *out = (struct forecast_several){.fits = blocks > 0 && devices <= footprint->blocks &&
                                             used <= (double)budget_of(machine),
                                     .blocks = blocks,
                                     .used = used < (double)UINT64_MAX ? (uint64_t)used : UINT64_MAX};
    if (out->fits && machine->rate > 0) {
        double seconds = sweep_seconds(&f, footprint->blocks, limits->tokens, limits, &waits);
        double share = (double)blocks / (double)footprint->blocks;
        tell_rate(out, work, (double)limits->tokens / (seconds * share));
    }
}

void forecast_take_card(struct forecast_machine *machine, const struct card *card, enum dtype dtype) {
    machine->has_own_memory = true;
    machine->rate = CARD_ASSUMED_SHARE * (dtype == DTYPE_F32 ? card->float_rate : card->matrix_rate);
    machine->bandwidth = card->bandwidth;
    machine->link = card_link(card);
}

const char *forecast_bound_name(enum forecast_bound bound) {
    switch (bound) {
    case FORECAST_COMPUTE:
        return "matrix rate";
    case FORECAST_LINK:
        return "PCIe";
    case FORECAST_DISK_READS:
        return "disk";
    case FORECAST_DEVICE_MEMORY:
        return "memory";
    case FORECAST_HOST_MEMORY:
        break;
    }
    return "host memory";
}
