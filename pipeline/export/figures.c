// SPDX-License-Identifier: MIT
#include "export/figures.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "checkpoints/layer.h"
#include "export/array_store.h"

enum { VECTORS = 4 }; // sum, sum of squares, minimum, maximum

static struct statistics *set_of(const struct export_figures *figures, const struct export_split *split,
                                 size_t layer) {
    size_t set = split == NULL ? figures->splits : split->figures;
    return &figures->sets[set * figures->plan->layer_count + layer];
}

const struct statistics *export_figures_of(const struct export_figures *figures,
                                           const struct export_split *split, size_t layer) {
    return set_of(figures, split, layer);
}

// Memory of sets that no split has is never touched.
int export_figures_create(struct export_figures *figures, const struct export_plan *plan, size_t splits,
                          struct error *err) {
    *figures = (struct export_figures){.plan = plan, .splits = splits};
    size_t sets = (splits + 1) * plan->layer_count;
    void *block;
    TRY(memory_zeroed(&block, sets, sizeof *figures->sets, err));
    figures->sets = block;
    TRY(memory_zeroed(&block, (sets + 1) * VECTORS, plan->hidden * sizeof(double), err));
    figures->memory = block;
    for (size_t i = 0; i < sets; i++) {
        double *vectors = figures->memory + i * VECTORS * plan->hidden;
        figures->sets[i] = (struct statistics){.sum = vectors,
                                               .sum_of_squares = vectors + plan->hidden,
                                               .minimum = vectors + 2 * plan->hidden,
                                               .maximum = vectors + 3 * plan->hidden};
    }
    export_figures_begin_split(figures, NULL);
    return STATUS_OK;
}

void export_figures_begin_split(struct export_figures *figures, const struct export_split *split) {
    for (size_t i = 0; i < figures->plan->layer_count; i++) {
        statistics_reset(set_of(figures, split, i), figures->plan->hidden);
    }
}

void export_figures_destroy(struct export_figures *figures) {
    free(figures->sets);
    free(figures->memory);
    *figures = (struct export_figures){0};
}

int export_figures_add_shard(struct export_figures *figures, struct shard_reader *reader, struct error *err) {
    const struct export_plan *plan = figures->plan;
    double *vectors = figures->memory + (figures->splits + 1) * plan->layer_count * VECTORS * plan->hidden;
    for (size_t i = 0; i < plan->layer_count; i++) {
        struct shard_statistics read = {.sum = vectors,
                                        .sum_of_squares = vectors + plan->hidden,
                                        .minimum = vectors + 2 * plan->hidden,
                                        .maximum = vectors + 3 * plan->hidden};
        struct statistics *all = set_of(figures, NULL, i);
        TRY(shard_reader_statistics(reader, plan->layer_places[i], &read, err));
        for (size_t k = 0; k < plan->hidden; k++) {
            all->sum[k] += read.sum[k];
            all->sum_of_squares[k] += read.sum_of_squares[k];
            all->minimum[k] = fmin(all->minimum[k], read.minimum[k]);
            all->maximum[k] = fmax(all->maximum[k], read.maximum[k]);
        }
        all->norm_sum += read.norm_sum;
        all->rows += read.rows;
    }
    return STATUS_OK;
}

void export_figures_add_rows(struct export_figures *figures, const struct export_problem *problem,
                             size_t layer, const void *latents, size_t rows) {
    statistics_add(set_of(figures, &figures->plan->splits[problem->split], layer), latents,
                   figures->plan->stored, rows, figures->plan->hidden);
}

// Population variance; cancellation may leave a tiny negative number.
static double deviation(double sum, double sum_of_squares, double count) {
    double mean = sum / count;
    return sqrt(fmax(sum_of_squares / count - mean * mean, 0));
}

void export_figures_spread(const struct statistics *set, size_t hidden, double *mean, double *spread) {
    double rows = set->rows == 0 ? NAN : (double)set->rows;
    for (size_t k = 0; k < hidden; k++) {
        mean[k] = set->sum[k] / rows;
        spread[k] = deviation(set->sum[k], set->sum_of_squares[k], rows);
    }
}

static int write_set(const struct export_figures *figures, struct array_store *store, size_t first,
                     const struct export_split *split, struct error *err) {
    size_t hidden = figures->plan->hidden;
    void *block;
    int status = STATUS_OK;
    TRY(memory_zeroed(&block, 2 * hidden, sizeof(double), err));
    double *mean = block;
    for (size_t i = 0; i < figures->plan->layer_count; i++) {
        const struct statistics *set = set_of(figures, split, i);
        export_figures_spread(set, hidden, mean, mean + hidden);
        const double *vectors[VECTORS] = {mean, mean + hidden, set->minimum, set->maximum};
        for (size_t k = 0; k < VECTORS; k++) {
            TRY_TO(done,
                   status = array_store_write(store, first + i * VECTORS + k, 0, hidden, vectors[k], err));
        }
    }
done:
    free(block);
    return status;
}

enum { ARRAY_NAME = SPLIT_NAME + LAYER_NAME + 16 };

// The arrays of all sets, which are `a_set` each: first of everything, then of each split.
static void name_arrays(const struct export_plan *plan, size_t count, size_t a_set, struct array_spec *specs,
                        char (*names)[ARRAY_NAME]) {
    static const char *const parts[VECTORS] = {"mean", "std", "minimum", "maximum"};
    for (size_t i = 0; i < count; i++) {
        const char *split = i < a_set ? "" : plan->splits[i / a_set - 1].name;
        char layer[LAYER_NAME];
        int length = snprintf(names[i], ARRAY_NAME, "%s%s%s.%s", split, i < a_set ? "" : ".",
                              layer_name(layer, plan->layers[i % a_set / VECTORS], plan->model_layers),
                              parts[i % VECTORS]);
        specs[i] = (struct array_spec){
            .name = names[i], .name_size = (size_t)length, .type = ARRAY_F64, .rows = plan->hidden};
    }
}

int export_figures_write(const struct export_figures *figures, const char *folder, struct error *err) {
    const struct export_plan *plan = figures->plan;
    size_t sets = plan->split_count > 1 ? plan->split_count + 1 : 1;
    size_t a_set = plan->layer_count * VECTORS;
    void *specs = NULL;
    void *names = NULL;
    struct array_store *store = NULL;
    char path[PATH_SIZE];
    int status;
    TRY_TO(done, status = memory_zeroed(&specs, sets * a_set, sizeof(struct array_spec), err));
    TRY_TO(done, status = memory_zeroed(&names, sets * a_set, ARRAY_NAME, err));
    name_arrays(plan, sets * a_set, a_set, specs, names);
    TRY_TO(done, status = path_join(path, sizeof path, folder, "statistics.safetensors", err));
    TRY_TO(done, status = safetensors_store(&store, path, specs, sets * a_set, err));
    for (size_t i = 0; i < sets; i++) {
        TRY_TO(done,
               status = write_set(figures, store, i * a_set, i == 0 ? NULL : &plan->splits[i - 1], err));
    }
    status = array_store_close(store, err);
done:
    array_store_destroy(store);
    free(specs);
    free(names);
    return status;
}

static bool put_real(json_t *object, const char *key, double value) {
    return json_object_set_new(object, key, isfinite(value) ? json_real(value) : json_null()) == 0;
}

json_t *export_figures_json(const struct export_figures *figures, const struct export_split *split,
                            size_t layer) {
    const struct export_plan *plan = figures->plan;
    const struct statistics *set = set_of(figures, split, layer);
    double sum = 0;
    double squares = 0;
    double minimum = INFINITY;
    double maximum = -INFINITY;
    for (size_t k = 0; k < plan->hidden; k++) {
        sum += set->sum[k];
        squares += set->sum_of_squares[k];
        minimum = fmin(minimum, set->minimum[k]);
        maximum = fmax(maximum, set->maximum[k]);
    }
    double numbers = (double)set->rows * (double)plan->hidden;
    json_t *object = json_object();
    bool good = json_object_set_new(object, "rows", json_integer((json_int_t)set->rows)) == 0 &&
                put_real(object, "mean", sum / numbers) &&
                put_real(object, "std", deviation(sum, squares, numbers)) &&
                put_real(object, "norm_mean", set->norm_sum / (double)set->rows) &&
                put_real(object, "minimum", minimum) && put_real(object, "maximum", maximum);
    if (!good) {
        json_decref(object);
        return NULL;
    }
    return object;
}
