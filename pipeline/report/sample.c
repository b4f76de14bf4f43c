// SPDX-License-Identifier: MIT
#include "report/sample.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/printable.h"
#include "base/random.h"
#include "base/size.h"
#include "checkpoints/run_folder.h"
#include "checkpoints/shard_reader.h"

// Keys of the metadata that may tell rows apart, the best first.
static const char *const keys[] = {"domain", "subject", "topic", "category", "split", "source", "dataset"};
enum { KEYS = sizeof keys / sizeof keys[0] };

struct sampling {
    struct sample *sample;
    const char *folder;
    size_t chosen; // shards
    size_t most;   // rows of the sample
    uint64_t seed;
    char *names[KEYS];     // [most, SAMPLE_CLASS_NAME], owned: of each row, by key; "" where it has none
    unsigned char *stored; // a row as stored
    double *statistics;    // [4, hidden]
};

// ---- norms ----

double sample_layer_mean(const struct sample_layer *layer) {
    return layer->rows > 0 ? layer->norms / (double)layer->rows : 0;
}

double sample_layer_spread(const struct sample_layer *layer) {
    double mean = sample_layer_mean(layer);
    double variance = layer->rows > 0 ? layer->squares / (double)layer->rows - mean * mean : 0;
    return variance > 0 ? sqrt(variance) : 0;
}

static int add_statistics(struct sampling *sampling, struct shard_reader *reader, struct error *err) {
    struct sample *sample = sampling->sample;
    size_t hidden = sample->hidden;
    for (size_t i = 0; i < sample->layer_count; i++) {
        struct sample_layer *layer = &sample->layers[i];
        struct shard_statistics statistics = {.sum = sampling->statistics,
                                              .sum_of_squares = sampling->statistics + hidden,
                                              .minimum = sampling->statistics + 2 * hidden,
                                              .maximum = sampling->statistics + 3 * hidden};
        TRY(shard_reader_statistics(reader, i, &statistics, err));
        layer->rows += statistics.rows;
        layer->norms += statistics.norm_sum;
        for (size_t j = 0; j < hidden && statistics.rows > 0; j++) {
            layer->squares += statistics.sum_of_squares[j];
            layer->largest =
                fmax(layer->largest, fmax(fabs(statistics.minimum[j]), fabs(statistics.maximum[j])));
        }
    }
    return STATUS_OK;
}

// ---- rows ----

// The values by which the problem may be told apart, to be shown.
static void read_names(struct sampling *sampling, size_t row, const struct shard_problem *problem) {
    struct error ignored;
    json_t *metadata = NULL;
    if (json_parse(&metadata, problem->metadata, problem->metadata_size, "metadata", &ignored) != STATUS_OK) {
        return;
    }
    for (size_t k = 0; k < KEYS; k++) {
        const char *name = json_string_value(json_object_get(metadata, keys[k]));
        if (name != NULL) {
            printable(sampling->names[k] + row * SAMPLE_CLASS_NAME, SAMPLE_CLASS_NAME, name);
        }
    }
    json_decref(metadata);
}

static int take_row(struct sampling *sampling, struct shard_reader *reader, size_t row, size_t problem,
                    struct error *err) {
    struct sample *sample = sampling->sample;
    const struct shard_content *content = shard_reader_content(reader);
    TRY(shard_reader_latents(reader, 0, row, 1, sampling->stored, err));
    dtype_convert(sample->vectors + sample->rows * sample->hidden, DTYPE_F32, sampling->stored,
                  content->dtype, sample->hidden);
    read_names(sampling, sample->rows, &content->problem[problem]);
    sample->rows++;
    return STATUS_OK;
}

// One row at random of each of `wanted` equal stretches of the shard's.
static int take_rows(struct sampling *sampling, struct shard_reader *reader, size_t wanted,
                     struct error *err) {
    const struct shard_content *content = shard_reader_content(reader);
    size_t problem = 0;
    size_t next = 0;
    for (size_t i = 0; i < wanted; i++) {
        double place = ((double)i + random_unit(&sampling->seed)) / (double)wanted;
        size_t row = size_max((size_t)(place * (double)content->rows), next);
        if (row >= content->rows) {
            break;
        }
        while (content->row_offset[problem + 1] <= row) {
            problem++;
        }
        TRY(take_row(sampling, reader, row, problem, err));
        next = row + 1;
    }
    return STATUS_OK;
}

// ---- shards ----

static void copy_attribute(char *out, size_t size, const struct shard_reader *reader, const char *name) {
    const char *value = shard_reader_attribute(reader, name);
    printable(out, size, value == NULL ? "" : value);
}

static int begin(struct sampling *sampling, const struct shard_reader *reader, struct error *err) {
    struct sample *sample = sampling->sample;
    const struct shard_content *content = shard_reader_content(reader);
    size_t fitting = SAMPLE_NUMBERS / size_max(content->hidden, 1);
    sampling->most = size_min(SAMPLE_ROWS, size_max(fitting, 1));
    sample->hidden = content->hidden;
    sample->model_layers = content->model_layers;
    snprintf(sample->dtype, sizeof sample->dtype, "%s", dtype_name(content->dtype));
    copy_attribute(sample->model_type, sizeof sample->model_type, reader, "model_type");
    copy_attribute(sample->pooling, sizeof sample->pooling, reader, "pooling");
    TRY(memory_zeroed(&sample->layers, content->layer_count, sizeof *sample->layers, err));
    sample->layer_count = content->layer_count;
    for (size_t i = 0; i < content->layer_count; i++) {
        sample->layers[i].layer = content->layers[i];
        layer_name(sample->layers[i].name, content->layers[i], content->model_layers);
    }
    TRY(memory_zeroed(&sample->vectors, sampling->most, content->hidden * sizeof(float), err));
    TRY(memory_zeroed(&sampling->stored, content->hidden, sizeof(float), err));
    TRY(memory_zeroed(&sampling->statistics, content->hidden, 4 * sizeof(double), err));
    for (size_t k = 0; k < KEYS; k++) {
        TRY(memory_zeroed(&sampling->names[k], sampling->most, SAMPLE_CLASS_NAME, err));
    }
    return STATUS_OK;
}

static bool fits(const struct sample *sample, const struct shard_content *content) {
    bool same = content->hidden == sample->hidden && content->layer_count == sample->layer_count;
    for (size_t i = 0; same && i < content->layer_count; i++) {
        same = content->layers[i] == sample->layers[i].layer;
    }
    return same;
}

static int read_shard(struct sampling *sampling, uint64_t number, size_t index, struct error *err) {
    struct sample *sample = sampling->sample;
    struct shard_reader *reader = NULL;
    char path[PATH_SIZE];
    int status;
    TRY_TO(done, status = run_folder_shard(path, sampling->folder, number, false, err));
    TRY_TO(done, status = shard_reader_open(&reader, path, err));
    if (sample->layers == NULL) {
        TRY_TO(done, status = begin(sampling, reader, err));
    }
    if (!fits(sample, shard_reader_content(reader))) {
        status = error_set(err, STATUS_DATA, "%s has other layers than those before it", path);
        goto done;
    }
    TRY_TO(done, status = add_statistics(sampling, reader, err));
    size_t share = (sampling->most - sample->rows) / (sampling->chosen - index);
    status = take_rows(sampling, reader, size_min(share, shard_reader_content(reader)->rows), err);
    sample->shards += status == STATUS_OK;
done:
    shard_reader_close(reader);
    return status;
}

// ---- classes ----

struct class_count {
    const char *name;
    uint64_t rows;
};

static int more_first(const void *a, const void *b) {
    const struct class_count *one = a;
    const struct class_count *other = b;
    return one->rows < other->rows ? 1 : one->rows > other->rows ? -1 : strcmp(one->name, other->name);
}

static size_t count_classes(struct class_count *classes, const char *names, size_t rows) {
    size_t count = 0;
    for (size_t i = 0; i < rows; i++) {
        const char *name = names + i * SAMPLE_CLASS_NAME;
        size_t k = 0;
        while (k < count && strcmp(classes[k].name, name) != 0) {
            k++;
        }
        if (k == count) {
            classes[count++] = (struct class_count){.name = name};
        }
        classes[k].rows++;
    }
    qsort(classes, count, sizeof *classes, more_first);
    return count;
}

static void name_classes(struct sample *sample, const struct class_count *classes, size_t count,
                         const char *names) {
    sample->class_count = size_min(count, SAMPLE_CLASSES);
    for (size_t i = 0; i < sample->class_count; i++) {
        bool others = count > SAMPLE_CLASSES && i + 1 == SAMPLE_CLASSES;
        snprintf(sample->classes[i], SAMPLE_CLASS_NAME, "%s",
                 others                    ? "others"
                 : classes[i].name[0] == 0 ? "not given"
                                           : classes[i].name);
    }
    for (size_t i = 0; i < sample->rows; i++) {
        size_t k = 0;
        while (k + 1 < sample->class_count && strcmp(classes[k].name, names + i * SAMPLE_CLASS_NAME) != 0) {
            k++;
        }
        sample->class_of[i] = (unsigned char)k;
        sample->class_rows[k]++;
    }
}

// By the first key that tells rows apart.
static int classify(struct sampling *sampling, struct error *err) {
    struct sample *sample = sampling->sample;
    struct class_count *classes = NULL;
    TRY(memory_zeroed(&sample->class_of, size_max(sample->rows, 1), 1, err));
    TRY(memory_zeroed(&classes, size_max(sample->rows, 1), sizeof *classes, err));
    for (size_t k = 0; k < KEYS && sample->key == NULL && sample->rows > 0; k++) {
        memset(classes, 0, sample->rows * sizeof *classes);
        size_t count = count_classes(classes, sampling->names[k], sample->rows);
        if (count > 1 && count <= sample->rows / 2) {
            sample->key = keys[k];
            name_classes(sample, classes, count, sampling->names[k]);
        }
    }
    free(classes);
    return STATUS_OK;
}

int sample_read(struct sample *sample, const char *folder, const struct history *history, struct error *err) {
    struct sampling sampling = {.sample = sample, .folder = folder, .seed = 1};
    int status = STATUS_OK;
    *sample = (struct sample){0};
    sampling.chosen = size_min(history->shard_count, SAMPLE_SHARDS);
    for (size_t i = 0; i < sampling.chosen && status != STATUS_INTERNAL; i++) {
        status = read_shard(&sampling, i * history->shard_count / sampling.chosen, i, err);
        if (status != STATUS_OK && sample->problem[0] == 0) {
            printable(sample->problem, sizeof sample->problem, err->message);
        }
    }
    status = status == STATUS_INTERNAL ? status : classify(&sampling, err);
    for (size_t k = 0; k < KEYS; k++) {
        free(sampling.names[k]);
    }
    free(sampling.stored);
    free(sampling.statistics);
    return status;
}

void sample_destroy(struct sample *sample) {
    free(sample->layers);
    free(sample->vectors);
    free(sample->class_of);
    *sample = (struct sample){0};
}
