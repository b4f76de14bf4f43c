// SPDX-License-Identifier: MIT
#include "report/history.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

// Launches shorter than this are drawn by the sum of their batches' times: the ledger tells whole seconds.
enum { SHORT_SECONDS = 300 };

struct reading {
    struct history *history;
    struct ledger *ledger;
    struct error *err;
    // Batches of one launch in one shard, consecutive: placed together, by when the shard was sealed.
    struct ledger_batch *group;
    size_t group_count, group_capacity;
    size_t shard;     // of the next batch; history->shard_count: none
    uint64_t launch;  // whose batches were placed last
    double placed_to; // seconds of it
};

// ---- launches, shards, events ----

static int grow(void *array, size_t count, size_t size, struct error *err) {
    void **block = array;
    // Doubling: when the count reaches a power of two.
    return (count & (count - 1)) == 0 ? memory_resize(block, count == 0 ? 1 : 2 * count, size, err)
                                      : STATUS_OK;
}

// Of a ledger that somebody else wrote: a moment of the years that are written with four digits.
static int64_t sane_time(int64_t at) {
    const int64_t last = 253402300799;
    return at < 0 ? 0 : at > last ? last : at;
}

static int collect_launch(void *context, const struct ledger_launch_record *launch) {
    struct reading *reading = context;
    struct history *history = reading->history;
    void *block = history->launches;
    TRY(grow(&block, history->launch_count, sizeof *history->launches, reading->err));
    history->launches = block;
    struct ledger_launch_record *kept = &history->launches[history->launch_count++];
    *kept = *launch;
    kept->started = sane_time(launch->started);
    kept->ended = sane_time(launch->ended);
    return STATUS_OK;
}

static int collect_shard(void *context, const struct ledger_shard *shard) {
    struct reading *reading = context;
    struct history *history = reading->history;
    void *block = history->shards;
    TRY(grow(&block, history->shard_count, sizeof *history->shards, reading->err));
    history->shards = block;
    history->shards[history->shard_count++] =
        (struct history_shard){.first_batch = shard->first_batch,
                               .batches = shard->batches,
                               .sealed_at = sane_time(shard->sealed_at)};
    return STATUS_OK;
}

static void drop_event(struct history_event *event) {
    free(event->kind);
    free(event->text);
    *event = (struct history_event){0};
}

static int collect_event(void *context, int64_t at, uint64_t launch, const char *kind, const char *text) {
    struct reading *reading = context;
    struct history *history = reading->history;
    struct history_event *event = &history->events[history->events_seen % HISTORY_EVENTS];
    drop_event(event);
    event->at = sane_time(at);
    event->launch = launch;
    TRY(memory_text(&event->kind, kind, reading->err));
    TRY(memory_text(&event->text, text, reading->err));
    history->events_seen++;
    return STATUS_OK;
}

// From a ring to the latest first.
static void order_events(struct history *history) {
    struct history_event ordered[HISTORY_EVENTS];
    uint64_t seen = history->events_seen;
    history->event_count = seen < HISTORY_EVENTS ? (size_t)seen : HISTORY_EVENTS;
    for (size_t i = 0; i < history->event_count; i++) {
        ordered[i] = history->events[(seen - 1 - i) % HISTORY_EVENTS];
    }
    memcpy(history->events, ordered, history->event_count * sizeof *ordered);
}

// ---- the timeline ----

// Of a launch without an end that is over: its last shard, or its last word.
static int64_t last_sign(const struct history *history, size_t launch, const struct ledger_progress *progress,
                         int64_t now) {
    const struct ledger_launch_record *record = &history->launches[launch];
    int64_t next = launch + 1 < history->launch_count ? history->launches[launch + 1].started : INT64_MAX;
    int64_t last = progress->epoch == record->epoch ? sane_time(progress->updated) : record->started;
    for (size_t i = 0; i < history->shard_count; i++) {
        int64_t at = history->shards[i].sealed_at;
        last = at > last && at <= next ? at : last;
    }
    return last < now ? last : now; // clocks of two machines may differ
}

static int add_piece(struct reading *reading, size_t index, int64_t end) {
    struct history *history = reading->history;
    const struct ledger_launch_record *launch = &history->launches[index];
    struct timeline_piece piece = {.launch = launch->epoch, .start = launch->started};
    piece.end = end > launch->started ? end : launch->started;
    piece.seconds = (double)(piece.end - piece.start);
    if (piece.seconds < SHORT_SECONDS) {
        struct ledger_work work;
        double lanes = history->device_count > 1 ? (double)history->device_count : 1;
        TRY(ledger_launch_work(reading->ledger, launch->epoch, &work, reading->err));
        piece.summed = true;
        piece.seconds = fmax(work.compute_seconds + work.wait_seconds, 0) / lanes;
    }
    return timeline_add(&history->timeline, &piece, reading->err);
}

static int add_pieces(struct reading *reading, int64_t now, bool running) {
    struct history *history = reading->history;
    struct ledger_progress progress = {0};
    bool found;
    TRY(ledger_progress(reading->ledger, &progress, &found, reading->err));
    for (size_t i = 0; i < history->launch_count; i++) {
        const struct ledger_launch_record *launch = &history->launches[i];
        bool open = launch->ended == 0;
        bool goes_on = open && running && i + 1 == history->launch_count;
        int64_t end = goes_on ? now : open ? last_sign(history, i, &progress, now) : launch->ended;
        TRY(launch->worked ? add_piece(reading, i, end) : STATUS_OK);
    }
    return STATUS_OK;
}

static int collect_device(void *context, const struct ledger_batch *batch) {
    struct history *history = ((struct reading *)context)->history;
    for (size_t i = 0; i < history->device_count; i++) {
        if (strcmp(history->devices[i], batch->device_name) == 0) {
            return STATUS_OK;
        }
    }
    if (batch->device_name[0] != 0 && history->device_count < HISTORY_DEVICES) {
        memcpy(history->devices[history->device_count++], batch->device_name, LEDGER_DEVICE_NAME);
    }
    return STATUS_OK;
}

int history_read(struct history *history, struct ledger *ledger, int64_t now, bool running,
                 struct error *err) {
    struct reading reading = {.history = history, .ledger = ledger, .err = err};
    *history = (struct history){0};
    TRY(memory_zeroed(&history->series, HISTORY_METRICS, sizeof *history->series, err));
    TRY(ledger_each_launch(ledger, collect_launch, &reading, err));
    TRY(ledger_each_shard(ledger, collect_shard, &reading, err));
    TRY(ledger_each_event(ledger, collect_event, &reading, err));
    order_events(history);
    TRY(ledger_each_batch(ledger, collect_device, &reading, err));
    TRY(memory_zeroed(&history->by_device, history->device_count + 1, HISTORY_FIGURES * sizeof(struct series),
                      err));
    return add_pieces(&reading, now, running);
}

// ---- batches ----

static double wall_of(const struct ledger_batch *batch) {
    double wall = batch->compute_seconds + batch->wait_seconds;
    return isfinite(wall) && wall > 0 ? wall : 0;
}

static void add_stage(struct history *history, enum history_stage stage, double seconds) {
    if (isfinite(seconds)) {
        history->seconds[stage] += seconds;
        history->known[stage] = true;
    }
}

static struct series *device_series(const struct history *history, size_t device,
                                    enum history_metric metric) {
    return &history->by_device[device * HISTORY_FIGURES + (size_t)(metric - METRIC_UTILIZATION)];
}

const struct series *history_of_device(const struct history *history, size_t device,
                                       enum history_metric metric) {
    return metric < METRIC_UTILIZATION || device >= history->device_count
               ? NULL
               : device_series(history, device, metric);
}

static void add_figure(struct history *history, enum history_metric metric, enum ledger_figure figure,
                       const struct ledger_batch *batch, double place) {
    double value;
    if (!ledger_device_get(&batch->device, figure, &value)) {
        return;
    }
    series_add(&history->series[metric], place, value, 1);
    for (size_t i = 0; i < history->device_count; i++) {
        if (strcmp(history->devices[i], batch->device_name) == 0) {
            series_add(device_series(history, i, metric), place, value, 1);
        }
    }
}

static void add_device_stage(struct history *history, enum history_stage stage, enum ledger_figure figure,
                             const struct ledger_batch *batch) {
    double value;
    if (ledger_device_get(&batch->device, figure, &value)) {
        add_stage(history, stage, value);
    }
}

static void add_batch(struct history *history, const struct ledger_batch *batch, double place, double lanes) {
    double wall = wall_of(batch);
    series_add(&history->series[METRIC_RATE], place, (double)batch->tokens * lanes / wall, wall);
    series_add(&history->series[METRIC_DRIFT], place, batch->score, 1);
    if (batch->memory_bytes > 0) {
        series_add(&history->series[METRIC_MEMORY], place, (double)batch->memory_bytes, 1);
    }
    add_figure(history, METRIC_UTILIZATION, FIGURE_UTILIZATION, batch, place);
    add_figure(history, METRIC_DEVICE_MEMORY, FIGURE_MEMORY_USED, batch, place);
    add_figure(history, METRIC_POWER, FIGURE_POWER, batch, place);
    add_figure(history, METRIC_TEMPERATURE, FIGURE_TEMPERATURE, batch, place);
    add_figure(history, METRIC_CLOCK, FIGURE_SM_CLOCK, batch, place);
    add_stage(history, STAGE_COMPUTE, batch->compute_seconds);
    add_stage(history, STAGE_WAIT, batch->wait_seconds);
    add_stage(history, STAGE_PREPARE, batch->prepare_seconds);
    add_stage(history, STAGE_WRITE, batch->write_seconds);
    add_device_stage(history, STAGE_UPLOAD, FIGURE_UPLOAD_SECONDS, batch);
    add_device_stage(history, STAGE_DEVICE, FIGURE_DEVICE_SECONDS, batch);
    add_device_stage(history, STAGE_DOWNLOAD, FIGURE_DOWNLOAD_SECONDS, batch);
    history->batches++;
}

// When the last batch of the group was done, in seconds of its launch: the moment at which its shard was
// sealed, or where another launch completed the shard, the end of its own.
static double end_of_group(const struct reading *reading, const struct timeline_piece *piece) {
    const struct ledger_batch *last = &reading->group[reading->group_count - 1];
    const struct history *history = reading->history;
    if (reading->shard < history->shard_count) {
        const struct history_shard *shard = &history->shards[reading->shard];
        if (last->number + 1 == shard->first_batch + shard->batches) {
            return (double)(shard->sealed_at - piece->start);
        }
    }
    return piece->seconds;
}

static void place_group(struct reading *reading) {
    struct history *history = reading->history;
    double lanes = history->device_count > 1 ? (double)history->device_count : 1;
    const struct timeline_piece *piece = timeline_find(&history->timeline, reading->group[0].epoch);
    double all = 0;
    for (size_t i = 0; i < reading->group_count; i++) {
        all += wall_of(&reading->group[i]) / lanes;
    }
    if (reading->launch != reading->group[0].epoch) {
        reading->launch = reading->group[0].epoch;
        reading->placed_to = 0;
    }
    double end = piece == NULL || piece->summed ? reading->placed_to + all : end_of_group(reading, piece);
    double begin = fmax(end - all, reading->placed_to);
    double scale = all > 0 && end > begin ? (end - begin) / all : 0;
    double at = begin;
    for (size_t i = 0; i < reading->group_count; i++) {
        double length = wall_of(&reading->group[i]) / lanes * scale;
        double place = piece == NULL ? 0 : timeline_place(piece, at + length / 2);
        add_batch(history, &reading->group[i], place, lanes);
        at += length;
    }
    reading->placed_to = fmax(at, reading->placed_to);
    reading->group_count = 0;
}

static bool in_shard(const struct history *history, size_t shard, uint64_t batch) {
    return shard < history->shard_count && batch >= history->shards[shard].first_batch &&
           batch - history->shards[shard].first_batch < history->shards[shard].batches;
}

static int collect_batch(void *context, const struct ledger_batch *batch) {
    struct reading *reading = context;
    const struct history *history = reading->history;
    bool same = reading->group_count > 0 && reading->group[0].epoch == batch->epoch &&
                in_shard(history, reading->shard, reading->group[0].number) ==
                    in_shard(history, reading->shard, batch->number);
    if (!same && reading->group_count > 0) {
        place_group(reading);
    }
    while (reading->shard < history->shard_count && !in_shard(history, reading->shard, batch->number) &&
           history->shards[reading->shard].first_batch < batch->number) {
        reading->shard++;
    }
    if (reading->group_count == reading->group_capacity) {
        void *block = reading->group;
        size_t capacity = 2 * reading->group_capacity + 16;
        TRY(memory_resize(&block, capacity, sizeof *reading->group, reading->err));
        reading->group = block;
        reading->group_capacity = capacity;
    }
    reading->group[reading->group_count++] = *batch;
    return STATUS_OK;
}

int history_read_batches(struct history *history, struct ledger *ledger, struct error *err) {
    struct reading reading = {.history = history, .ledger = ledger, .err = err, .launch = UINT64_MAX};
    int status = ledger_each_batch(ledger, collect_batch, &reading, err);
    if (status == STATUS_OK && reading.group_count > 0) {
        place_group(&reading);
    }
    free(reading.group);
    return status;
}

void history_destroy(struct history *history) {
    for (size_t i = 0; i < HISTORY_EVENTS; i++) {
        drop_event(&history->events[i]);
    }
    free(history->launches);
    free(history->shards);
    free(history->series);
    free(history->by_device);
    timeline_destroy(&history->timeline);
    *history = (struct history){0};
}
