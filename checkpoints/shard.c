// SPDX-License-Identifier: MIT
#include "checkpoints/shard.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/copy.h"
#include "base/size.h"
#include "checkpoints/layer.h"
#include "checkpoints/run_folder.h"
#include "checkpoints/shard_describe.h"
#include "checkpoints/shard_writer.h"

// Latents leave in chunks of about 4 MB; with many layers in smaller ones, so that the buffers of all layers
// together stay within 64 MB. A pure function of the layout, since it decides the file's bytes.
enum { CHUNK_MOST = 4 << 20, CHUNK_LEAST = 256 << 10, BUFFERS_MOST = 64 << 20 };

static size_t chunk_rows(const struct shard_layout *layout) {
    size_t share = BUFFERS_MOST / size_max(layout->layer_count, 1);
    size_t bytes = size_max(size_min(share, CHUNK_MOST), CHUNK_LEAST);
    return size_max(bytes / (layout->hidden * dtype_size(layout->dtype)), 1);
}

static int check_layout(const struct shard_layout *layout, struct error *err) {
    enum { HIDDEN_MOST = 1 << 24 };
    if (layout->hidden == 0 || layout->hidden > HIDDEN_MOST || layout->layer_count == 0 ||
        layout->layer_count > SHARD_LAYERS) {
        return error_set(err, STATUS_INTERNAL, "a shard layout of %zu layers of %zu numbers",
                         layout->layer_count, layout->hidden);
    }
    for (size_t i = 0; i < layout->layer_count; i++) {
        if ((layout->layers[i] > layout->model_layers &&
             !layer_is_pre_norm(layout->layers[i], layout->model_layers)) ||
            (i > 0 && layout->layers[i] <= layout->layers[i - 1])) {
            return error_set(err, STATUS_INTERNAL, "layer %zu of the shard layout is out of order or range",
                             layout->layers[i]);
        }
    }
    return STATUS_OK;
}

static size_t columns_kept(const struct shard_layout *layout) {
    return shard_columns_kept(layout->token_ids, layout->loss_mask);
}

static int memory_needed(const struct shard_layout *layout, size_t *total, struct error *err) {
    enum { SLACK = 256 };
    size_t latents;
    size_t figures;
    bool fits = column_bytes(dtype_size(layout->dtype), layout->hidden, chunk_rows(layout), &latents) &&
                size_mul(layout->hidden, 4 * sizeof(double), &figures) && size_add(latents, figures, total) &&
                size_add(*total, sizeof(struct column) + sizeof(struct statistics) + SLACK, total) &&
                size_mul(*total, layout->layer_count, total) &&
                size_add(*total, shard_columns_bytes(columns_kept(layout)) + SLACK, total);
    return fits ? STATUS_OK
                : error_set(err, STATUS_INTERNAL, "the buffers of a shard do not fit this machine");
}

static int take_buffers(struct shard_writer *writer, struct error *err) {
    const struct shard_layout *layout = writer->layout;
    size_t total = 0;
    TRY(memory_needed(layout, &total, err));
    TRY(arena_create(&writer->arena, total, err));
    writer->latents = arena_take(&writer->arena, layout->layer_count * sizeof *writer->latents, 64);
    writer->figures = arena_take(&writer->arena, layout->layer_count * sizeof *writer->figures, 64);
    if (writer->latents == NULL || writer->figures == NULL) {
        return error_set(err, STATUS_INTERNAL, "the buffers of a shard were counted wrong");
    }
    for (size_t i = 0; i < layout->layer_count; i++) {
        char name[LAYER_NAME];
        char path[64];
        double *figures = arena_take(&writer->arena, 4 * layout->hidden * sizeof(double), 64);
        if (figures == NULL) {
            return error_set(err, STATUS_INTERNAL, "the buffers of a shard were counted wrong");
        }
        writer->figures[i] = (struct statistics){.sum = figures,
                                                 .sum_of_squares = figures + layout->hidden,
                                                 .minimum = figures + 2 * layout->hidden,
                                                 .maximum = figures + 3 * layout->hidden};
        snprintf(path, sizeof path, "/latents/%s", layer_name(name, layout->layers[i], layout->model_layers));
        TRY(column_init(&writer->latents[i], path, writer->type, layout->hidden, chunk_rows(layout),
                        &writer->arena, err));
    }
    return shard_columns_init(&writer->columns, columns_kept(layout), &writer->arena, err);
}

int shard_create(struct shard_writer **out, const char *folder, const struct shard_layout *layout,
                 struct error *err) {
    void *block;
    *out = NULL;
    TRY(check_layout(layout, err));
    TRY(memory_zeroed(&block, 1, sizeof **out, err));
    struct shard_writer *writer = block;
    writer->layout = layout;
    writer->file = H5I_INVALID_HID;
    writer->type = H5I_INVALID_HID;
    hdf5_quiet();
    int status;
    TRY_TO(done, status = path_join(writer->folder, sizeof writer->folder, "", folder, err));
    memcpy(writer->open_in, writer->folder, sizeof writer->open_in);
    TRY_TO(done, status = hdf5_float_type(&writer->type, layout->dtype, err));
    TRY_TO(done, status = take_buffers(writer, err));
done:
    if (status != STATUS_OK) {
        shard_destroy(writer);
        return status;
    }
    *out = writer;
    return STATUS_OK;
}

int shard_open_in(struct shard_writer *writer, const char *folder, const struct copy_claim *claim,
                  struct error *err) {
    writer->claim = *claim;
    return path_join(writer->open_in, sizeof writer->open_in, "", folder, err);
}

// Remembers that HDF5 must not be called again (invariant 10), and says which shard it was.
static int give_up(struct shard_writer *writer, struct error *err) {
    writer->broken = true;
    return error_wrap(err, "shard %llu", (unsigned long long)writer->number);
}

int shard_start(struct shard_writer *writer, uint64_t number, struct error *err) {
    static const char *const groups[] = {"/latents", "/statistics"};
    if (writer->broken || writer->open) {
        return error_set(err, STATUS_INTERNAL, "shard %llu cannot start: the writer is not free",
                         (unsigned long long)number);
    }
    char path[PATH_SIZE];
    TRY(run_folder_shard(path, writer->open_in, number, false, err));
    if (snprintf(writer->aside, sizeof writer->aside, "%s.tmp", path) >= (int)sizeof writer->aside) {
        return error_set(err, STATUS_WRITE, "path too long: %.200s", path);
    }
    hdf5_quiet();
    writer->number = number;
    for (size_t i = 0; i < writer->layout->layer_count; i++) {
        column_reset(&writer->latents[i]);
        statistics_reset(&writer->figures[i], writer->layout->hidden);
    }
    int status;
    TRY_TO(done, status = hdf5_create(&writer->file, writer->aside, err));
    writer->open = true;
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        TRY_TO(done, status = hdf5_make_group(writer->file, groups[i], err));
    }
    TRY_TO(done, status = shard_columns_start(&writer->columns, writer->file, err));
done:
    return status == STATUS_OK ? STATUS_OK : give_up(writer, err);
}

// A batch that contradicts itself is a fault of the program, found before a byte of it is written.
static int check_batch(const struct shard_batch *batch, struct error *err) {
    size_t row = 0;
    for (size_t i = 0; i < batch->problem_count; i++) {
        const struct shard_problem *problem = &batch->problems[i];
        if (problem->rows > batch->row_count - row) {
            return error_set(err, STATUS_INTERNAL, "batch %llu has fewer rows than its problems",
                             (unsigned long long)batch->number);
        }
        for (size_t last = row + problem->rows; row < last; row++) {
            const struct shard_row *span = &batch->rows[row];
            if (span->token_start > span->token_end || span->token_end > problem->token_count ||
                span->byte_start > span->byte_end) {
                return error_set(err, STATUS_INTERNAL, "a row of problem '%.*s' is not a span of its tokens",
                                 (int)size_min(problem->id_size, 200), problem->id);
            }
        }
    }
    if (row != batch->row_count) {
        return error_set(err, STATUS_INTERNAL, "batch %llu has more rows than its problems",
                         (unsigned long long)batch->number);
    }
    return STATUS_OK;
}

static int append_latents(struct shard_writer *writer, const struct shard_batch *batch, struct error *err) {
    const struct shard_layout *layout = writer->layout;
    for (size_t i = 0; i < layout->layer_count; i++) {
        struct statistics *figures = &writer->figures[i];
        statistics_add(figures, batch->latents[i], layout->dtype, batch->row_count, layout->hidden);
        if (!isfinite(figures->norm_sum)) {
            return error_set(err, STATUS_INTERNAL, "batch %llu: latents of layer %zu are not finite",
                             (unsigned long long)batch->number, layout->layers[i]);
        }
        int status =
            column_append(&writer->latents[i], writer->file, batch->latents[i], batch->row_count, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

int shard_append(struct shard_writer *writer, const struct shard_batch *batch, struct error *err) {
    if (writer->broken || !writer->open) {
        return error_set(err, STATUS_INTERNAL, "no shard is open for batch %llu",
                         (unsigned long long)batch->number);
    }
    hdf5_quiet();
    int status;
    TRY_TO(done, status = check_batch(batch, err));
    for (size_t i = 0; i < batch->problem_count; i++) {
        TRY_TO(done,
               status = shard_columns_problem(&writer->columns, writer->file, &batch->problems[i], err));
    }
    for (size_t i = 0; i < batch->row_count; i++) {
        TRY_TO(done, status = shard_columns_row(&writer->columns, writer->file, &batch->rows[i], err));
    }
    TRY_TO(done, status = append_latents(writer, batch, err));
    TRY_TO(done, status = shard_columns_batch(&writer->columns, writer->file, batch->number, err));
done:
    return status == STATUS_OK ? STATUS_OK : give_up(writer, err);
}

// ---- the end of a shard ----
//
// What is still in memory is written, then the commit order up to the ledger's door: close, sync the file,
// hash it, rename it, sync the folder (invariant 2).

static int write_root_attributes(const struct shard_writer *writer, struct error *err) {
    const struct shard_layout *layout = writer->layout;
    hid_t file = writer->file;
    const uint32_t version = SHARD_FORMAT;
    TRY(hdf5_set_numbers(file, "/", "format_version", HDF5_U32, 0, &version, err));
    TRY(shard_set_u64(file, "/", "shard", writer->number, err));
    TRY(shard_set_u64(file, "/", "hidden", layout->hidden, err));
    TRY(shard_set_u64(file, "/", "model_layers", layout->model_layers, err));
    TRY(shard_set_u64(file, "/", "layer_count", layout->layer_count, err));
    uint64_t layers[SHARD_LAYERS];
    for (size_t i = 0; i < layout->layer_count; i++) {
        layers[i] = layout->layers[i];
    }
    TRY(hdf5_set_numbers(file, "/", "layers", HDF5_U64, layout->layer_count, layers, err));
    TRY(hdf5_set_text(file, "/", "dtype", dtype_name(layout->dtype), err));
    for (size_t i = 0; i < layout->attribute_count; i++) {
        TRY(hdf5_set_text(file, "/", layout->attributes[i].name, layout->attributes[i].value, err));
    }
    return STATUS_OK;
}

static int write_rest(struct shard_writer *writer, struct error *err) {
    const struct shard_layout *layout = writer->layout;
    TRY(shard_columns_finish(&writer->columns, writer->file, err));
    for (size_t i = 0; i < layout->layer_count; i++) {
        TRY(column_finish(&writer->latents[i], writer->file, err));
        TRY(shard_name_layer(writer->file, writer->latents[i].path, layout->layers[i], layout->model_layers,
                             layout->dtype, err));
        TRY(shard_write_statistics(writer->file, &writer->figures[i], layout->layers[i], layout->model_layers,
                                   layout->hidden, err));
    }
    TRY(write_root_attributes(writer, err));
    if (H5Fclose(writer->file) < 0) {
        return hdf5_fail(err, STATUS_WRITE, "cannot close %s", writer->aside);
    }
    return STATUS_OK;
}

static int publish(const struct shard_writer *writer, bool partial, struct shard_sealed *sealed,
                   struct error *err) {
    char path[PATH_SIZE];
    run_folder_shard_name(sealed->name, writer->number, partial);
    TRY(run_folder_shard(path, writer->folder, writer->number, partial, err));
    // HDF5 reaches the page cache only. The sync comes first so that the hash is of what the disk took; a
    // sync that failed is final (invariant 10).
    TRY(file_sync(writer->aside, err));
    TRY(digest_file(writer->aside, sealed->sha256, err));
    TRY(file_size(writer->aside, &sealed->bytes, err));
    if (strcmp(writer->open_in, writer->folder) == 0) {
        return file_publish(writer->aside, path, err);
    }
    TRY(copy_publish(writer->aside, path, sealed->sha256, &writer->claim, err));
    return file_remove(writer->aside, err);
}

int shard_seal(struct shard_writer *writer, bool partial, struct shard_sealed *sealed, struct error *err) {
    *sealed = (struct shard_sealed){0};
    if (writer->broken || !writer->open) {
        return error_set(err, STATUS_INTERNAL, "no shard is open to be sealed");
    }
    hdf5_quiet();
    int status;
    TRY_TO(done, status = write_rest(writer, err));
    sealed->problems = shard_columns_problems(&writer->columns);
    sealed->rows = shard_columns_rows(&writer->columns);
    sealed->tokens = writer->columns.tokens;
    TRY_TO(done, status = publish(writer, partial, sealed, err));
done:
    if (status != STATUS_OK) {
        return give_up(writer, err);
    }
    writer->open = false;
    writer->file = H5I_INVALID_HID;
    return STATUS_OK;
}

void shard_destroy(struct shard_writer *writer) {
    if (writer == NULL) {
        return;
    }
    if (!writer->broken) {
        hdf5_quiet();
        if (writer->open) {
            H5Fclose(writer->file);
        }
        H5Tclose(writer->type);
    }
    if (writer->open) {
        struct error ignored; // the next start removes every .tmp file
        file_remove(writer->aside, &ignored);
    }
    arena_destroy(&writer->arena);
    free(writer);
}

const char *shard_library(char out[32]) {
    unsigned major = 0;
    unsigned minor = 0;
    unsigned release = 0;
    hdf5_quiet();
    H5get_libversion(&major, &minor, &release);
    snprintf(out, 32, "%u.%u.%u", major, minor, release);
    return out;
}
