// SPDX-License-Identifier: MIT
// A block's matmuls in turn for seconds, without a pause: the rate that a long run can be compared with.
// Trials of milliseconds are timed at a clock that heat and the power limit take away from what runs for
// long.
//
// Rounds of these matmuls are queued in slices, the next slices before one is waited for, so that a
// device that queues never runs dry; each slice is timed by the device's own fences.
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "bench/parts.h"
#include "kernels/telemetry.h"

enum {
    AHEAD = 2,         // slices that are queued when one is waited for
    SLICES = 128,      // the last ones, of which as many as make up a second count
    ROUNDS_MOST = 256, // in a slice
    TEXT_LENGTH = 300, // of the texts whose numbers are multiplied
};

static const double slice_seconds = 1.0 / 32;

struct conditions {       // as the device's monitoring saw them meanwhile; nothing that is older counts
    int32_t lowest_clock; // DEVICE_UNKNOWN: never seen
    int32_t clock_most;
    int64_t reasons; // every throttle reason that was seen; DEVICE_UNKNOWN: never seen
    double power;    // sum, in the second half
    double power_limit;
    size_t power_samples;
};

struct sustained {
    struct bench *bench;
    unsigned matmuls;  // the steps of a round
    double operations; // of a round
    int rounds;        // in a slice
    double started;    // clock_seconds
    struct slice {
        struct device_fence fence;
        double seconds;
    } slices[SLICES]; // slice n: [n % SLICES]
    uint64_t queued;
    uint64_t done;
    uint64_t first;      // slices of the first second
    double first_second; // what they took
    struct conditions conditions;
};

// ---- slices ----

static int queue_slice(struct sustained *s, struct error *err) {
    struct bench_blocks *blocks = &s->bench->blocks;
    struct slice *slice = &s->slices[s->queued % SLICES];
    double began = clock_seconds();
    for (int round = 0; round < s->rounds; round++) {
        for (int step = 0; step < BLOCK_STEPS; step++) {
            if ((s->matmuls & 1u << step) != 0) {
                TRY(bench_block_step(blocks, (size_t)round, (enum block_step)step, err));
            }
        }
    }
    TRY(device_fence(blocks->device, &slice->fence, err));
    slice->seconds = clock_seconds() - began; // where nothing is queued the work is done
    s->queued++;
    return STATUS_OK;
}

static int finish_slice(struct sustained *s, struct error *err) {
    struct slice *slice = &s->slices[s->done % SLICES];
    struct device_times times;
    TRY(device_wait(s->bench->device, slice->fence, &times, err));
    slice->seconds = s->bench->blocks.queues ? times.compute_seconds : slice->seconds;
    if (s->first_second < 1) {
        s->first++;
        s->first_second += slice->seconds;
    }
    s->done++;
    return STATUS_OK;
}

static double rate(const struct sustained *s, uint64_t slices, double seconds) {
    return s->operations * s->rounds * (double)slices / seconds;
}

static double last_rate(const struct sustained *s) {
    uint64_t count = 0;
    double seconds = 0;
    while (count < s->done && count < SLICES && seconds < 1) {
        seconds += s->slices[(s->done - 1 - count) % SLICES].seconds;
        count++;
    }
    return rate(s, count, seconds);
}

// ---- what the device says meanwhile ----

static void observe(struct sustained *s) {
    struct conditions *seen = &s->conditions;
    struct device_sample now;
    device_sample(s->bench->device, &now);
    double read_at = clock_seconds() - now.age_seconds;
    if (now.age_seconds < 0 || read_at < s->started) {
        return;
    }
    if (now.sm_clock > 0 && (seen->lowest_clock < 0 || now.sm_clock < seen->lowest_clock)) {
        seen->lowest_clock = now.sm_clock;
    }
    seen->clock_most = now.sm_clock_most;
    if (now.throttle_reasons >= 0) {
        seen->reasons = seen->reasons >= 0 ? seen->reasons | now.throttle_reasons : now.throttle_reasons;
    }
    if (now.power >= 0 && read_at - s->started >= s->bench->options.seconds / 2) {
        seen->power += now.power;
        seen->power_limit = now.power_limit;
        seen->power_samples++;
    }
}

// ---- the measurement ----

// What a whole block leaves in the buffers is what its matmuls multiply: zeros would take less power. Then
// one round says how many make a slice.
static int prepare(struct sustained *s, struct error *err) {
    struct bench *bench = s->bench;
    size_t tokens = bench->options.tokens;
    double seconds[BLOCK_STEPS] = {0};
    double round = 0;
    TRY(bench_blocks_batch(&bench->blocks, tokens, TEXT_LENGTH, err));
    TRY(bench_run_in_each(&bench->blocks, (1u << BLOCK_STEPS) - 1, seconds, err));
    memset(seconds, 0, sizeof seconds);
    TRY(bench_run_steps(&bench->blocks, 0, s->matmuls, seconds, err));
    for (int step = 0; step < BLOCK_STEPS; step++) {
        round += seconds[step];
    }
    s->rounds = (int)fmax(1, fmin(round > 0 ? slice_seconds / round : ROUNDS_MOST, ROUNDS_MOST));
    s->operations = bench_matmul_operations(&bench->blocks) * (double)tokens;
    return STATUS_OK;
}

static int work(struct sustained *s, struct error *err) {
    double enough = s->bench->options.seconds;
    struct device_fence fence;
    TRY(device_fence(s->bench->device, &fence, err)); // the first slice's time begins here
    s->started = clock_seconds();
    while (clock_seconds() - s->started < enough) {
        while (s->queued - s->done <= AHEAD) {
            TRY(queue_slice(s, err));
        }
        TRY(finish_slice(s, err));
        observe(s);
    }
    while (s->done < s->queued) {
        TRY(finish_slice(s, err));
    }
    observe(s);
    return STATUS_OK;
}

// "of 1980", or nothing where that is not known.
static const char *of_most(double most, char *out, size_t size) {
    out[0] = 0;
    if (most > 0) {
        snprintf(out, size, "of %.0f", most);
    }
    return out;
}

static void print_conditions(struct bench *bench, const struct conditions *seen) {
    char reasons[128];
    char most[32];
    device_throttle_names(seen->reasons, reasons, sizeof reasons);
    if (seen->lowest_clock >= 0) {
        bench_print(bench, "lowest SM clock", seen->lowest_clock, "MHz", "%-11s throttle reasons: %s",
                    of_most(seen->clock_most, most, sizeof most), reasons);
    }
    if (seen->power_samples > 0) {
        bench_print(bench, "power", seen->power / (double)seen->power_samples, "W", "%s",
                    of_most(seen->power_limit, most, sizeof most));
    }
    bench_add_text(bench, "throttle_reasons", reasons);
}

int bench_sustained(struct bench *bench, struct error *err) {
    struct sustained s = {.bench = bench,
                          .matmuls = bench_matmul_steps(&bench->blocks),
                          .conditions = {.lowest_clock = DEVICE_UNKNOWN, .reasons = DEVICE_UNKNOWN}};
    TRY(bench_report_save(bench, err));
    TRY(prepare(&s, err));
    TRY(work(&s, err));
    double first = rate(&s, s.first, s.first_second);
    double last = last_rate(&s);
    bench_print(bench, "products in turn, first second", first * 1e-9, "GFLOP/s", "%s", "");
    bench_print_rate(bench, "products in turn, last second", last, 1, first, "the first");
    bench_print(bench, "token/s of a block's products", (double)bench->options.tokens * last / s.operations,
                "tokens/s", "%s", "");
    print_conditions(bench, &s.conditions);
    return STATUS_OK;
}
