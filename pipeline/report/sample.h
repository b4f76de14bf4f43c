// SPDX-License-Identifier: MIT
// What a run's sealed shards tell of its latents: the norms of each layer's rows from the shards' own
// statistics, and a sample of rows of the first layer. Of many shards some are read, evenly over the run; the
// same run gives the same sample.
#ifndef STRATA_REPORT_SAMPLE_H
#define STRATA_REPORT_SAMPLE_H

#include "base/memory.h"
#include "checkpoints/layer.h"
#include "report/history.h"

enum {
    SAMPLE_SHARDS = 48,
    SAMPLE_ROWS = 2000,
    SAMPLE_NUMBERS = 8 << 20, // of all rows together
    SAMPLE_CLASSES = 8,       // the last one: all others
    SAMPLE_CLASS_NAME = 64
};

struct sample_layer {
    size_t layer; // layer.h
    char name[LAYER_NAME];
    uint64_t rows;
    double norms, squares; // sums over rows of the norm and of its square
    double largest;        // absolute value of a number
};

struct sample {
    struct sample_layer *layers;
    size_t layer_count, hidden, model_layers;
    size_t shards;     // that were read
    char problem[512]; // with a shard that could not be; or ""
    float *vectors;    // [rows, hidden] of the first layer
    size_t rows;
    const char *key; // of the metadata, by which rows are told apart: "domain"; NULL: none
    char classes[SAMPLE_CLASSES][SAMPLE_CLASS_NAME]; // to be shown
    size_t class_count;
    uint64_t class_rows[SAMPLE_CLASSES];
    unsigned char *class_of;                                // [rows]
    char model_type[64], pooling[64], dtype[16], steps[64]; // as the first shard says
};

// A shard that is missing or damaged is no failure: `problem` names it.
int sample_read(struct sample *sample, const char *folder, const struct history *history, struct error *err);
void sample_destroy(struct sample *sample); // accepts zeros; leaves zeros

double sample_layer_mean(const struct sample_layer *layer);   // of the norms
double sample_layer_spread(const struct sample_layer *layer); // their standard deviation

#endif
