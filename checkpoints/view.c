// SPDX-License-Identifier: MIT
#include "checkpoints/view.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/aside.h"
#include "base/file.h"
#include "base/size.h"
#include "checkpoints/layer.h"
#include "checkpoints/run_folder.h"
#include "checkpoints/run_whole.h"
#include "checkpoints/shard_columns.h"
#include "checkpoints/shard_describe.h"
#include "checkpoints/shard_reader.h"
#include "checkpoints/shard_writer.h"

struct source {
    // "shards/part-000000.h5", of a set "part-0007-of-0064/shards/part-000000.h5": relative to the view's
    // own folder
    char name[RUN_SET_NAME + RUN_FOLDER_NAME + 8];
    size_t rows;
    size_t tokens;
};

struct view {
    const char *folder;          // of the run, or the set
    struct ledger *ledger;       // of the run
    const struct run_list *list; // of the set; NULL: of a run by itself
    struct run_whole whole;      // of the set
    char part[RUN_SET_NAME + 1]; // "part-0007-of-0064/", whose shards are added; empty of a run by itself
    struct error *err;
    hid_t file;
    hid_t type; // of the latents
    struct arena arena;
    struct shard_columns columns;
    struct source sources[VIEW_SHARDS];
    size_t count;
    // The layout of the first shard, which is that of all.
    size_t layers[SHARD_LAYERS];
    size_t layer_count;
    size_t model_layers;
    size_t hidden;
    enum dtype dtype;
    bool token_ids;
    bool loss_mask;
    struct statistics *figures; // [layer_count], sums over shards in shard order
    double *figure_memory;
    struct buffer token_offset; // uint64 [problems + 1]
    uint64_t tokens;
};

static int take_statistics_memory(struct view *view) {
    void *block = NULL;
    TRY(memory_zeroed(&block, view->layer_count, sizeof *view->figures, view->err));
    view->figures = block;
    // One set more to read each shard's into.
    TRY(memory_zeroed(&block, (view->layer_count + 1) * 4, view->hidden * sizeof(double), view->err));
    view->figure_memory = block;
    for (size_t i = 0; i < view->layer_count; i++) {
        double *start = view->figure_memory + i * 4 * view->hidden;
        view->figures[i] = (struct statistics){.sum = start,
                                               .sum_of_squares = start + view->hidden,
                                               .minimum = start + 2 * view->hidden,
                                               .maximum = start + 3 * view->hidden};
        statistics_reset(&view->figures[i], view->hidden);
    }
    return STATUS_OK;
}

// Of a set, what tells a part's rows and identity gives way to the whole's, as far as it is known.
static int set_attribute(const struct view *view, const char *name, const char *value) {
    char hash[DIGEST_HEX];
    bool problems = strcmp(name, "problems_sha256") == 0;
    if (view->list == NULL || (!problems && strcmp(name, "identity") != 0)) {
        return hdf5_set_text(view->file, "/", name, value, view->err);
    }
    if (!view->whole.surveyed) {
        return STATUS_OK;
    }
    TRY(identity_hash(&view->whole.identity, hash, view->err));
    return hdf5_set_text(view->file, "/", name,
                         problems ? identity_get(&view->whole.identity, IDENTITY_PROBLEMS) : hash, view->err);
}

// The first shard decides the layout and gives the root's attributes.
static int adopt_layout(struct view *view, const struct shard_reader *reader) {
    const struct shard_content *content = shard_reader_content(reader);
    const uint32_t version = SHARD_FORMAT;
    const uint64_t zero = 0;
    uint64_t layers[SHARD_LAYERS];
    view->layer_count = content->layer_count;
    view->model_layers = content->model_layers;
    view->hidden = content->hidden;
    view->dtype = content->dtype;
    view->token_ids = content->problems > 0 && content->problem[0].tokens != NULL;
    view->loss_mask = content->problems > 0 && content->problem[0].loss_mask != NULL;
    for (size_t i = 0; i < content->layer_count; i++) {
        layers[i] = view->layers[i] = content->layers[i];
    }
    TRY(take_statistics_memory(view));
    TRY(hdf5_float_type(&view->type, view->dtype, view->err));
    TRY(hdf5_set_numbers(view->file, "/", "format_version", HDF5_U32, 0, &version, view->err));
    TRY(hdf5_set_numbers(view->file, "/", "layers", HDF5_U64, view->layer_count, layers, view->err));
    const char *name;
    const char *value = "";
    for (size_t i = 0; (name = shard_reader_attribute_at(reader, i, &value)) != NULL; i++) {
        TRY(set_attribute(view, name, value));
    }
    return buffer_append(&view->token_offset, &zero, sizeof zero, view->err);
}

static bool same_layout(const struct view *view, const struct shard_content *content) {
    return content->layer_count == view->layer_count && content->hidden == view->hidden &&
           content->dtype == view->dtype &&
           memcmp(content->layers, view->layers, view->layer_count * sizeof *view->layers) == 0;
}

static int add_statistics(struct view *view, struct shard_reader *reader) {
    double *memory = view->figure_memory + view->layer_count * 4 * view->hidden;
    struct shard_statistics part = {.sum = memory,
                                    .sum_of_squares = memory + view->hidden,
                                    .minimum = memory + 2 * view->hidden,
                                    .maximum = memory + 3 * view->hidden};
    for (size_t i = 0; i < view->layer_count; i++) {
        struct statistics *total = &view->figures[i];
        TRY(shard_reader_statistics(reader, i, &part, view->err));
        for (size_t j = 0; j < view->hidden; j++) {
            total->sum[j] += part.sum[j];
            total->sum_of_squares[j] += part.sum_of_squares[j];
            total->minimum[j] = fmin(total->minimum[j], part.minimum[j]);
            total->maximum[j] = fmax(total->maximum[j], part.maximum[j]);
        }
        total->norm_sum += part.norm_sum;
        total->rows += part.rows;
    }
    return STATUS_OK;
}

static int add_problems(struct view *view, const struct shard_content *content) {
    size_t batch = 0;
    for (size_t i = 0; i <= content->problems; i++) {
        for (; batch < content->batches && content->batch_offset[batch + 1] == i; batch++) {
            TRY(shard_columns_batch(&view->columns, view->file, content->batch_number[batch], view->err));
        }
        if (i == content->problems) {
            break;
        }
        view->tokens += content->problem[i].token_count;
        TRY(shard_columns_problem(&view->columns, view->file, &content->problem[i], view->err));
        TRY(buffer_append(&view->token_offset, &view->tokens, sizeof view->tokens, view->err));
    }
    for (size_t i = 0; i < content->rows; i++) {
        TRY(shard_columns_row(&view->columns, view->file, &content->row[i], view->err));
    }
    return STATUS_OK;
}

static int add_shard(void *context, const struct ledger_shard *shard) {
    struct view *view = context;
    char path[PATH_SIZE];
    struct shard_reader *reader = NULL;
    if (view->count == VIEW_SHARDS) { // sealed since they were counted, by a retry of a part
        return error_set(view->err, STATUS_STOPPED, "the runs have more shards than at first");
    }
    struct source *source = &view->sources[view->count];
    snprintf(source->name, sizeof source->name, "%sshards/%s", view->part, shard->sealed.name);
    TRY(run_folder_file(path, view->folder, source->name, view->err));
    TRY(shard_reader_open(&reader, path, view->err));
    const struct shard_content *content = shard_reader_content(reader);
    uint64_t tokens = view->tokens;
    int status;
    if (view->count == 0) {
        TRY_TO(done, status = adopt_layout(view, reader));
    } else if (!same_layout(view, content)) {
        status = error_set(view->err, STATUS_DATA, "%s has another layout than the first shard", path);
        goto done;
    }
    TRY_TO(done, status = add_problems(view, content));
    TRY_TO(done, status = add_statistics(view, reader));
    source->rows = content->rows;
    source->tokens = view->tokens - tokens;
    view->count++;
done:
    shard_reader_close(reader);
    return status;
}

// One virtual dataset: the sources' parts one after another, each a range of the first dimension. width 0:
// one dimension.
struct mapping {
    const char *path; // the same in every source
    hid_t type;
    const void *fill; // one number
    size_t width;
    bool tokens; // parts are tokens, not rows
};

static int map_source(const struct view *view, const struct mapping *mapping, hid_t plist, hid_t space,
                      size_t place, hsize_t *first) {
    const struct source *source = &view->sources[place];
    int rank = mapping->width > 0 ? 2 : 1;
    hsize_t extent[2] = {mapping->tokens ? source->tokens : source->rows, mapping->width};
    hsize_t start[2] = {*first, 0};
    if (extent[0] == 0) {
        return STATUS_OK;
    }
    *first += extent[0];
    hid_t part = H5Screate_simple(rank, extent, NULL);
    bool good = part >= 0 && H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, extent, NULL) >= 0 &&
                H5Pset_virtual(plist, space, source->name, mapping->path, part) >= 0;
    int status = good
                     ? STATUS_OK
                     : hdf5_fail(view->err, STATUS_WRITE, "cannot map %s of %s", mapping->path, source->name);
    H5Sclose(part);
    return status;
}

static int write_virtual(const struct view *view, const struct mapping *mapping) {
    int rank = mapping->width > 0 ? 2 : 1;
    hsize_t total[2] = {0, mapping->width};
    hsize_t first = 0;
    hid_t dataset = H5I_INVALID_HID;
    for (size_t i = 0; i < view->count; i++) {
        total[0] += mapping->tokens ? view->sources[i].tokens : view->sources[i].rows;
    }
    hid_t space = H5Screate_simple(rank, total, NULL);
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
    int status = STATUS_OK;
    if (space < 0 || plist < 0 || H5Pset_obj_track_times(plist, false) < 0 ||
        H5Pset_fill_value(plist, mapping->type, mapping->fill) < 0) {
        status = hdf5_fail(view->err, STATUS_WRITE, "cannot prepare the virtual dataset %s", mapping->path);
        goto done;
    }
    for (size_t i = 0; i < view->count; i++) {
        TRY_TO(done, status = map_source(view, mapping, plist, space, i, &first));
    }
    dataset = H5Dcreate2(view->file, mapping->path, mapping->type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    if (dataset < 0 || H5Dclose(dataset) < 0) {
        status = hdf5_fail(view->err, STATUS_WRITE, "cannot write the virtual dataset %s", mapping->path);
    }
done:
    H5Pclose(plist);
    H5Sclose(space);
    return status;
}

static int write_layers(const struct view *view) {
    static const uint32_t nan_f32 = 0x7fc00000u;
    static const uint16_t nan_f16 = 0x7e00u;
    static const uint16_t nan_bf16 = 0x7fc0u;
    const void *fill = view->dtype == DTYPE_F32   ? (const void *)&nan_f32
                       : view->dtype == DTYPE_F16 ? (const void *)&nan_f16
                                                  : (const void *)&nan_bf16;
    TRY(hdf5_make_group(view->file, "/latents", view->err));
    TRY(hdf5_make_group(view->file, "/statistics", view->err));
    for (size_t i = 0; i < view->layer_count; i++) {
        char name[LAYER_NAME];
        char path[64];
        snprintf(path, sizeof path, "/latents/%s", layer_name(name, view->layers[i], view->model_layers));
        const struct mapping mapping = {
            .path = path, .type = view->type, .fill = fill, .width = view->hidden};
        TRY(write_virtual(view, &mapping));
        TRY(shard_name_layer(view->file, path, view->layers[i], view->model_layers, view->dtype, view->err));
        TRY(shard_write_statistics(view->file, &view->figures[i], view->layers[i], view->model_layers,
                                   view->hidden, view->err));
    }
    return STATUS_OK;
}

static int write_tokens(const struct view *view) {
    static const int32_t missing = -1;
    const struct mapping mapping = {
        .path = "/tokens/ids", .type = H5T_STD_I32LE, .fill = &missing, .tokens = true};
    TRY(hdf5_make_group(view->file, "/tokens", view->err));
    static const uint8_t no_mask = 0xFF; // neither 0 nor 1
    const struct mapping mask = {
        .path = "/tokens/loss_mask", .type = H5T_STD_U8LE, .fill = &no_mask, .tokens = true};
    TRY(write_virtual(view, &mapping));
    TRY(view->loss_mask ? write_virtual(view, &mask) : STATUS_OK);
    return hdf5_write(view->file, "/tokens/offset", H5T_STD_U64LE, view->token_offset.size / sizeof(uint64_t),
                      0, view->token_offset.data, view->err);
}

static int add_part(struct view *view, const struct run_list_member *member) {
    struct ledger *ledger = NULL;
    char name[RUN_SET_NAME];
    int status;
    run_set_part_name(name, &member->part);
    snprintf(view->part, sizeof view->part, "%s/", name);
    TRY_TO(done, status = ledger_open_read(&ledger, member->folder, view->err));
    status = ledger_each_shard(ledger, add_shard, view, view->err);
done:
    ledger_close(ledger);
    return status;
}

static int add_shards(struct view *view) {
    if (view->list == NULL) {
        return ledger_each_shard(view->ledger, add_shard, view, view->err);
    }
    for (size_t i = 0; i < view->list->count; i++) {
        TRY(add_part(view, &view->list->members[i]));
    }
    return STATUS_OK;
}

static int write_file(struct view *view, const char *aside) {
    hdf5_quiet();
    TRY(hdf5_create(&view->file, aside, view->err));
    TRY(shard_columns_init(&view->columns, shard_columns_kept(false, false), &view->arena, view->err));
    TRY(shard_columns_start(&view->columns, view->file, view->err));
    TRY(add_shards(view));
    TRY(shard_columns_finish(&view->columns, view->file, view->err));
    TRY(write_layers(view));
    if (view->token_ids) {
        TRY(write_tokens(view));
    }
    hid_t file = view->file;
    view->file = H5I_INVALID_HID; // closed, or past closing
    return H5Fclose(file) < 0 ? hdf5_fail(view->err, STATUS_WRITE, "cannot close %s", aside) : STATUS_OK;
}

static void destroy(struct view *view) {
    if (view->type >= 0) {
        H5Tclose(view->type);
    }
    if (view->file >= 0) {
        H5Fclose(view->file); // with all that is open in it
    }
    run_whole_destroy(&view->whole);
    buffer_destroy(&view->token_offset);
    free(view->figures);
    free(view->figure_memory);
    arena_destroy(&view->arena);
    free(view);
}

// Of a run by itself, or of the set of the list; `aside` is a name beside the view's path.
static int write_view(const char *folder, struct ledger *ledger, const struct run_list *list,
                      const char *aside, struct error *err) {
    char path[PATH_SIZE];
    void *block = NULL;
    TRY(run_folder_file(path, folder, "latents.h5", err));
    TRY(memory_zeroed(&block, 1, sizeof(struct view), err));
    struct view *view = block;
    *view = (struct view){.folder = folder,
                          .err = err,
                          .ledger = ledger,
                          .list = list,
                          .file = H5I_INVALID_HID,
                          .type = H5I_INVALID_HID};
    int status;
    TRY_TO(done, status = list == NULL ? STATUS_OK : run_whole_read(&view->whole, list, err));
    TRY_TO(done,
           status = arena_create(&view->arena, shard_columns_bytes(shard_columns_kept(false, false)), err));
    TRY_TO(done, status = write_file(view, aside));
    TRY_TO(done, status = file_sync(aside, err));
    status = file_publish(aside, path, err);
done:
    destroy(view);
    return status;
}

// Removes a view that shows only some of the shards.
static int remove_view(const char *folder, struct error *err) {
    char path[PATH_SIZE];
    TRY(run_folder_file(path, folder, "latents.h5", err));
    return file_remove(path, err);
}

int view_write(const char *folder, struct ledger *ledger, bool *written, struct error *err) {
    char aside[PATH_SIZE];
    struct ledger_totals totals;
    *written = false;
    TRY(run_folder_file(aside, folder, "latents.h5.tmp", err));
    TRY(ledger_totals(ledger, &totals, err));
    if (totals.shards > VIEW_SHARDS) {
        return remove_view(folder, err);
    }
    int status = totals.shards == 0 ? STATUS_OK : write_view(folder, ledger, NULL, aside, err);
    *written = status == STATUS_OK && totals.shards > 0;
    return status;
}

// ---- of a set ----

// Adds a part's shards; *finished is false when it is not.
static int count_shards(const struct run_list_member *member, uint64_t *shards, bool *finished,
                        struct error *err) {
    struct ledger *ledger = NULL;
    struct ledger_totals totals = {0};
    int status = STATUS_OK;
    *finished = member->begun;
    if (!member->begun) {
        return STATUS_OK;
    }
    TRY_TO(done, status = ledger_open_read(&ledger, member->folder, err));
    TRY_TO(done, status = ledger_totals(ledger, &totals, err));
    *finished = totals.finished;
    *shards += totals.shards;
done:
    ledger_close(ledger);
    return status;
}

static int write_set(const struct run_list *list, bool *written, struct error *err) {
    char aside[PATH_SIZE];
    char path[PATH_SIZE];
    uint64_t shards = 0;
    bool finished = true;
    for (size_t i = 0; i < list->count && finished; i++) {
        TRY(count_shards(&list->members[i], &shards, &finished, err));
    }
    if (!finished || shards == 0) {
        return STATUS_OK;
    }
    if (shards > VIEW_SHARDS) {
        return remove_view(list->set, err);
    }
    TRY(run_folder_file(path, list->set, "latents.h5", err));
    TRY(aside_name(aside, path, err)); // parts that end at the same moment both write it
    int status = write_view(list->set, NULL, list, aside, err);
    *written = status == STATUS_OK;
    if (status != STATUS_OK) {
        unlink(aside);
    }
    return status;
}

int view_write_set(const char *folder, bool *written, struct error *err) {
    struct run_list list;
    uint64_t parts = 0;
    *written = false;
    TRY(run_set_parts(folder, &parts, err));
    if (parts == 0 || parts > VIEW_SHARDS) {
        return STATUS_OK;
    }
    TRY(run_list_open(&list, &folder, 1, err));
    int status = write_set(&list, written, err);
    run_list_destroy(&list);
    return status;
}
