// SPDX-License-Identifier: MIT
#include "start/placement.h"

#include "base/size.h"
#include "stages/in_flight.h"

// Tokens of a sweep that make the coming of weights cheap: a block's weights of 16 bits take as many
// operations a byte as the sweep has tokens. 3 * 10^11 operations a second make a byte of 16,384 tokens take
// 55 ns, beside 1 or 2 ns for reading, hashing and packing it on a processor. A GPU of 10^15 and PCIe 4 need
// some 40,000 tokens to hide the copies.
size_t placement_tokens(bool has_own_memory) {
    return has_own_memory ? 65536 : 16384;
}

// A way to run a job: where the weights lie, and the limits with their group and slots.
struct way {
    const struct inputs *inputs;
    enum model_weights_at at; // of blocks that do not stay
    struct model_limits limits;
    size_t resident;
};

// The host's memory is a processor's own: what does not fit there has no other place in it.
static bool may_stream(const struct inputs *inputs, enum job_weights weights) {
    return weights == JOB_WEIGHTS_DISK || (weights == JOB_WEIGHTS_HOST && inputs->device.host_staging);
}

bool placement_streams(const struct inputs *inputs) {
    return may_stream(inputs, (enum job_weights)inputs->job.weights);
}

static size_t wanted_group(const struct inputs *inputs, const struct model_limits *limits) {
    const struct survey *survey = inputs->retries ? &inputs->retry : &inputs->survey;
    size_t tokens = placement_tokens(inputs->device.host_staging);
    size_t group = (tokens + limits->tokens - 1) / limits->tokens;
    if (inputs->job.batch_group > 0) {
        group = (size_t)inputs->job.batch_group;
    }
    size_t devices = size_max(model_devices(inputs->model), 1); // each has a group of its own in a sweep
    size_t batches = (size_t)size_min(survey->totals.batches, IN_FLIGHT_GROUP);
    return size_max(1,
                    size_min(size_min(group, IN_FLIGHT_GROUP / devices), (batches + devices - 1) / devices));
}

static size_t blocks_of(const struct inputs *inputs, const struct model_limits *limits) {
    return model_blocks_wanted(model_config_of(inputs->model), limits);
}

static int try_placement(struct way *way, size_t resident, size_t group, struct model_plan *plan,
                         struct error *err) {
    const struct model_placement placement = {
        .at = resident >= blocks_of(way->inputs, &way->limits) ? MODEL_WEIGHTS_RESIDENT : way->at,
        .resident = resident};
    model_set_placement(way->inputs->model, &placement);
    way->resident = resident;
    inputs_set_group(way->inputs, &way->limits, group);
    TRY(model_plan(way->inputs->model, &way->limits, plan, err));
    return model_check_fits(way->inputs->model, plan, err);
}

// At least one streams.
static size_t most_resident(const struct way *way) {
    return size_min((size_t)way->inputs->job.resident_blocks, blocks_of(way->inputs, &way->limits) - 1);
}

// An even number of streamed blocks where there are two slots: the first one then comes into another slot
// than the last one computes from.
static bool turns_evenly(const struct way *way, size_t resident) {
    return !way->inputs->device.queues || resident == 0 ||
           (blocks_of(way->inputs, &way->limits) - resident) % 2 == 0;
}

// The most resident blocks that fit with the group and that the job allows. Not by halving: the more blocks
// stay on the device, the fewer are kept in host memory. STATUS_DEVICE: none do, and `plan` is that of none.
static int find_resident(struct way *way, size_t group, struct model_plan *plan, struct error *err) {
    int status = STATUS_DEVICE;
    for (size_t left = most_resident(way) + 1; left > 0 && status == STATUS_DEVICE; left--) {
        if (turns_evenly(way, left - 1)) {
            status = try_placement(way, left - 1, group, plan, err);
        }
    }
    return status;
}

static int stream(struct way *way, struct model_plan *plan, struct error *err) {
    size_t group = wanted_group(way->inputs, &way->limits);
    int status = find_resident(way, group, plan, err);
    while (status == STATUS_DEVICE && group > 1 && way->inputs->job.batch_group == 0) {
        group /= 2;
        status = find_resident(way, group, plan, err);
    }
    return status;
}

static struct way way_of(const struct inputs *inputs, const struct model_limits *limits,
                         enum job_weights weights) {
    return (struct way){.inputs = inputs,
                        .at = weights == JOB_WEIGHTS_HOST ? MODEL_WEIGHTS_HOST : MODEL_WEIGHTS_DISK,
                        .limits = *limits};
}

int placement_choose(const struct inputs *inputs, struct model_limits *limits, struct model_plan *plan,
                     struct error *err) {
    size_t last = blocks_of(inputs, limits);
    struct way way = way_of(inputs, limits, (enum job_weights)inputs->job.weights);
    bool streams = placement_streams(inputs) && last > 0;
    int status = STATUS_DEVICE;
    if (!streams || (size_t)inputs->job.resident_blocks >= last) {
        status = try_placement(&way, last, 1, plan, err);
    }
    if (streams && status == STATUS_DEVICE) {
        status = stream(&way, plan, err);
    }
    *limits = way.limits;
    return status;
}

int placement_foresee(const struct inputs *inputs, const struct model_limits *limits,
                      enum job_weights weights, struct placement_found *found, struct error *err) {
    struct model_plan plan;
    struct way way = way_of(inputs, limits, weights);
    bool chain = model_split_of(inputs->model) == MODEL_SPLIT_LAYERS; // whose blocks are resident
    if (!may_stream(inputs, weights) || blocks_of(inputs, limits) == 0 || chain) {
        return error_set(err, STATUS_DEVICE, "nothing can stream");
    }
    int status = stream(&way, &plan, err);
    *found = (struct placement_found){way.resident, way.limits.group};
    return status;
}

int placement_describe(const struct inputs *inputs, const struct model_limits *limits, struct buffer *text,
                       struct error *err) {
    size_t blocks = blocks_of(inputs, limits);
    size_t streamed = model_streamed(inputs->model, blocks);
    if (streamed == 0) {
        return STATUS_OK;
    }
    // Of all devices: they compute a sweep together.
    return buffer_printf(text, err, "%zu of %zu blocks stay, %zu come from %s for every %zu batches",
                         blocks - streamed, blocks, streamed,
                         inputs->job.weights == JOB_WEIGHTS_HOST ? "host memory" : "their files",
                         limits->group * size_max(model_devices(inputs->model), 1));
}
