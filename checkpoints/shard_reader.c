// SPDX-License-Identifier: MIT
#include "checkpoints/shard_reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "checkpoints/layer.h"
#include "checkpoints/shard_columns.h"
#include "checkpoints/shard_writer.h"

struct text_attribute {
    char *name;
    char *value;
};

struct shard_reader {
    hid_t file;
    hid_t type;     // of the latents
    hid_t *dataset; // [layers]
    struct shard_content content;
    size_t *layers;
    struct shard_problem *problems;
    struct shard_row *rows;
    void *column[COLUMN_COUNT]; // the small datasets as stored
    size_t length[COLUMN_COUNT];
    struct text_attribute *attributes;
    size_t attribute_count;
};

const struct shard_content *shard_reader_content(const struct shard_reader *reader) {
    return &reader->content;
}

const char *shard_reader_attribute(const struct shard_reader *reader, const char *name) {
    for (size_t i = 0; i < reader->attribute_count; i++) {
        if (strcmp(reader->attributes[i].name, name) == 0) {
            return reader->attributes[i].value;
        }
    }
    return NULL;
}

const char *shard_reader_attribute_at(const struct shard_reader *reader, size_t place, const char **value) {
    if (place >= reader->attribute_count) {
        return NULL;
    }
    *value = reader->attributes[place].value;
    return reader->attributes[place].name;
}

struct collector {
    struct shard_reader *reader;
    struct error *err;
};

// Keeps a text attribute of the root; numbers are read by name elsewhere.
static herr_t collect_attribute(hid_t root, const char *name, const H5A_info_t *info, void *context) {
    struct collector *collector = context;
    struct shard_reader *reader = collector->reader;
    struct text_attribute entry = {0};
    void *value = NULL;
    herr_t result = -1;
    (void)info;
    hid_t attribute = H5Aopen(root, name, H5P_DEFAULT);
    hid_t type = attribute < 0 ? H5I_INVALID_HID : H5Aget_type(attribute);
    hid_t space = attribute < 0 ? H5I_INVALID_HID : H5Aget_space(attribute);
    if (type < 0 || space < 0) {
        goto done;
    }
    if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0 ||
        H5Sget_simple_extent_npoints(space) != 1) {
        result = 0;
        goto done;
    }
    void *grown = reader->attributes;
    if (memory_zeroed(&value, H5Tget_size(type) + 1, 1, collector->err) != STATUS_OK ||
        memory_resize(&grown, reader->attribute_count + 1, sizeof entry, collector->err) != STATUS_OK) {
        goto done;
    }
    reader->attributes = grown;
    if (H5Aread(attribute, type, value) < 0 || memory_text(&entry.name, name, collector->err) != STATUS_OK) {
        goto done;
    }
    entry.value = value;
    value = NULL;
    reader->attributes[reader->attribute_count++] = entry;
    result = 0;
done:
    free(value);
    H5Sclose(space);
    H5Tclose(type);
    H5Aclose(attribute);
    return result;
}

static int read_layout(struct shard_reader *reader, struct error *err) {
    struct shard_content *content = &reader->content;
    uint32_t version = 0;
    uint64_t hidden = 0;
    uint64_t layers = 0;
    uint64_t model_layers = 0;
    uint64_t indices[SHARD_LAYERS];
    struct collector collector = {reader, err};
    TRY(hdf5_get_numbers(reader->file, "/", "format_version", HDF5_U32, 0, &version, err));
    if (version != SHARD_FORMAT) {
        return error_set(err, STATUS_DATA, "format %u is not known here (%d is)", version, SHARD_FORMAT);
    }
    TRY(hdf5_get_numbers(reader->file, "/", "shard", HDF5_U64, 0, &content->number, err));
    TRY(hdf5_get_numbers(reader->file, "/", "hidden", HDF5_U64, 0, &hidden, err));
    TRY(hdf5_get_numbers(reader->file, "/", "layer_count", HDF5_U64, 0, &layers, err));
    TRY(hdf5_get_numbers(reader->file, "/", "model_layers", HDF5_U64, 0, &model_layers, err));
    if ((layers == 0 || layers > SHARD_LAYERS || hidden == 0)) {
        return error_set(err, STATUS_DATA, "%llu layers of %llu numbers cannot be",
                         (unsigned long long)layers, (unsigned long long)hidden);
    }
    TRY(hdf5_get_numbers(reader->file, "/", "layers", HDF5_U64, layers, indices, err));
    if (H5Aiterate2(reader->file, H5_INDEX_NAME, H5_ITER_INC, NULL, collect_attribute, &collector) < 0) {
        return hdf5_fail(err, STATUS_DATA, "cannot read the root's attributes");
    }
    void *block = NULL;
    TRY(memory_zeroed(&block, layers, sizeof *reader->layers, err));
    reader->layers = block;
    for (size_t i = 0; i < layers; i++) {
        reader->layers[i] = indices[i];
        if (indices[i] > model_layers && !layer_is_pre_norm(indices[i], model_layers)) {
            return error_set(err, STATUS_DATA, "hidden state %llu cannot be of %llu blocks",
                             (unsigned long long)indices[i], (unsigned long long)model_layers);
        }
    }
    content->layers = reader->layers;
    content->layer_count = layers;
    content->model_layers = model_layers;
    content->hidden = hidden;
    const char *dtype = shard_reader_attribute(reader, "dtype");
    if (dtype == NULL || !dtype_parse(dtype, &content->dtype)) {
        return error_set(err, STATUS_DATA, "no known dtype: '%s'", dtype == NULL ? "" : dtype);
    }
    return STATUS_OK;
}

// Offsets cut `total` items into `parts`: 0 first, never falling, `total` last.
static int check_offsets(const struct shard_reader *reader, enum shard_column which, size_t parts,
                         uint64_t total, struct error *err) {
    const uint64_t *offset = reader->column[which];
    const char *path = shard_column_path(which);
    if (reader->length[which] != parts + 1) {
        return error_set(err, STATUS_DATA, "%s has %zu entries for %zu parts", path, reader->length[which],
                         parts);
    }
    if (offset[0] != 0 || offset[parts] != total) {
        return error_set(err, STATUS_DATA, "%s runs from %llu to %llu, not from 0 to %llu", path,
                         (unsigned long long)offset[0], (unsigned long long)offset[parts],
                         (unsigned long long)total);
    }
    for (size_t i = 0; i < parts; i++) {
        if (offset[i + 1] < offset[i]) {
            return error_set(err, STATUS_DATA, "%s falls at entry %zu", path, i + 1);
        }
    }
    return STATUS_OK;
}

static int check_lengths(const struct shard_reader *reader, enum shard_column first, enum shard_column last,
                         size_t length, struct error *err) {
    for (enum shard_column which = first; which <= last; which++) {
        if (reader->length[which] != length) {
            return error_set(err, STATUS_DATA, "%s has %zu entries, %s has %zu", shard_column_path(which),
                             reader->length[which], shard_column_path(first), length);
        }
    }
    return STATUS_OK;
}

static int check_mask(const struct shard_reader *reader, struct error *err) {
    const uint8_t *mask = reader->column[COLUMN_LOSS_MASK];
    const char *path = shard_column_path(COLUMN_LOSS_MASK);
    if (reader->length[COLUMN_LOSS_MASK] != reader->length[COLUMN_TOKEN_IDS]) {
        return error_set(err, STATUS_DATA, "%s has %zu entries for %zu tokens", path,
                         reader->length[COLUMN_LOSS_MASK], reader->length[COLUMN_TOKEN_IDS]);
    }
    for (size_t i = 0; i < reader->length[COLUMN_LOSS_MASK]; i++) {
        if (mask[i] > 1) {
            return error_set(err, STATUS_DATA, "%s is %u at token %zu, not 0 or 1", path, mask[i], i);
        }
    }
    return STATUS_OK;
}

static int check_columns(const struct shard_reader *reader, struct error *err) {
    const struct shard_content *content = &reader->content;
    const size_t *length = reader->length;
    TRY(check_offsets(reader, COLUMN_ID_OFFSET, content->problems, length[COLUMN_ID], err));
    TRY(check_offsets(reader, COLUMN_METADATA_OFFSET, content->problems, length[COLUMN_METADATA], err));
    TRY(check_offsets(reader, COLUMN_ROW_OFFSET, content->problems, content->rows, err));
    TRY(check_offsets(reader, COLUMN_BATCH_OFFSET, content->batches, content->problems, err));
    if (reader->column[COLUMN_TOKEN_IDS] != NULL) {
        TRY(check_offsets(reader, COLUMN_TOKEN_OFFSET, content->problems, length[COLUMN_TOKEN_IDS], err));
    }
    if (reader->column[COLUMN_LOSS_MASK] != NULL) {
        TRY(check_mask(reader, err));
    }
    TRY(check_lengths(reader, COLUMN_TOKEN_COUNT, COLUMN_STEP_COUNT, content->problems, err));
    return check_lengths(reader, COLUMN_ROW_STEP, COLUMN_ROW_BYTE_END, content->rows, err);
}

static int fill_problems(struct shard_reader *reader, struct error *err) {
    const struct shard_content *content = &reader->content;
    const uint64_t *id = reader->column[COLUMN_ID_OFFSET];
    const uint64_t *metadata = reader->column[COLUMN_METADATA_OFFSET];
    const uint64_t *row = reader->column[COLUMN_ROW_OFFSET];
    const uint64_t *token = reader->column[COLUMN_TOKEN_OFFSET];
    const uint8_t *mask = reader->column[COLUMN_LOSS_MASK];
    for (size_t i = 0; i < content->problems; i++) {
        struct shard_problem *problem = &reader->problems[i];
        problem->id = (const char *)reader->column[COLUMN_ID] + id[i];
        problem->id_size = id[i + 1] - id[i];
        problem->metadata = (const char *)reader->column[COLUMN_METADATA] + metadata[i];
        problem->metadata_size = metadata[i + 1] - metadata[i];
        problem->ordinal = ((const uint64_t *)reader->column[COLUMN_ORDINAL])[i];
        problem->token_count = ((const uint32_t *)reader->column[COLUMN_TOKEN_COUNT])[i];
        problem->truncated = ((const uint8_t *)reader->column[COLUMN_TRUNCATED])[i] != 0;
        problem->step_count = ((const uint32_t *)reader->column[COLUMN_STEP_COUNT])[i];
        problem->rows = row[i + 1] - row[i];
        if (token != NULL) {
            problem->tokens = (const int32_t *)reader->column[COLUMN_TOKEN_IDS] + token[i];
            problem->loss_mask = mask == NULL ? NULL : mask + token[i];
            if (token[i + 1] - token[i] != problem->token_count) {
                return error_set(err, STATUS_DATA, "problem %zu has %llu token ids and a count of %u", i,
                                 (unsigned long long)(token[i + 1] - token[i]), problem->token_count);
            }
        }
    }
    return STATUS_OK;
}

static int fill_rows(struct shard_reader *reader, struct error *err) {
    const uint32_t *step = reader->column[COLUMN_ROW_STEP];
    const uint32_t *token_start = reader->column[COLUMN_ROW_TOKEN_START];
    const uint32_t *token_end = reader->column[COLUMN_ROW_TOKEN_END];
    const uint32_t *byte_start = reader->column[COLUMN_ROW_BYTE_START];
    const uint32_t *byte_end = reader->column[COLUMN_ROW_BYTE_END];
    const struct shard_content *content = &reader->content;
    for (size_t i = 0; i < content->problems; i++) {
        for (size_t row = content->row_offset[i]; row < content->row_offset[i + 1]; row++) {
            struct shard_row *span = &reader->rows[row];
            *span = (struct shard_row){step[row], token_start[row], token_end[row], byte_start[row],
                                       byte_end[row]};
            if (span->token_start > span->token_end || span->token_end > content->problem[i].token_count ||
                span->byte_start > span->byte_end) {
                return error_set(err, STATUS_DATA, "row %zu is not a span of the tokens of problem %zu", row,
                                 i);
            }
        }
    }
    return STATUS_OK;
}

static int read_columns(struct shard_reader *reader, struct error *err) {
    struct shard_content *content = &reader->content;
    bool token_ids = H5Lexists(reader->file, "/tokens", H5P_DEFAULT) > 0;
    bool loss_mask = token_ids && H5Lexists(reader->file, "/tokens/loss_mask", H5P_DEFAULT) > 0;
    size_t count = shard_columns_kept(token_ids, loss_mask);
    for (size_t i = 0; i < count; i++) {
        TRY(hdf5_read_column(reader->file, shard_column_path((enum shard_column)i),
                             shard_column_kind((enum shard_column)i), &reader->column[i], &reader->length[i],
                             err));
    }
    content->problems = reader->length[COLUMN_ORDINAL];
    content->rows = reader->length[COLUMN_ROW_STEP];
    content->batches = reader->length[COLUMN_BATCH_NUMBER];
    content->row_offset = reader->column[COLUMN_ROW_OFFSET];
    content->batch_number = reader->column[COLUMN_BATCH_NUMBER];
    content->batch_offset = reader->column[COLUMN_BATCH_OFFSET];
    void *block = NULL;
    TRY(check_columns(reader, err));
    TRY(memory_zeroed(&block, content->problems, sizeof *reader->problems, err));
    content->problem = reader->problems = block;
    TRY(memory_zeroed(&block, content->rows, sizeof *reader->rows, err));
    content->row = reader->rows = block;
    TRY(fill_problems(reader, err));
    return fill_rows(reader, err);
}

static int open_latents(struct shard_reader *reader, size_t layer, struct error *err) {
    const struct shard_content *content = &reader->content;
    char name[LAYER_NAME];
    char path[64];
    hsize_t dims[2] = {0};
    snprintf(path, sizeof path, "/latents/%s",
             layer_name(name, content->layers[layer], content->model_layers));
    hid_t dataset = H5Dopen2(reader->file, path, H5P_DEFAULT);
    if (dataset < 0) {
        return hdf5_fail(err, STATUS_DATA, "no dataset %s", path);
    }
    reader->dataset[layer] = dataset;
    TRY(hdf5_check_storage(dataset, path, err));
    hid_t space = H5Dget_space(dataset);
    hid_t type = H5Dget_type(dataset);
    bool good = space >= 0 && type >= 0 && H5Tequal(type, reader->type) > 0 &&
                H5Sget_simple_extent_ndims(space) == 2 && H5Sget_simple_extent_dims(space, dims, NULL) == 2 &&
                dims[0] == content->rows && dims[1] == content->hidden;
    // Rows that the file does not store would be read as whatever HDF5 fills in.
    good = good &&
           H5Dget_storage_size(dataset) / (content->hidden * dtype_size(content->dtype)) >= content->rows;
    H5Tclose(type);
    H5Sclose(space);
    return good ? STATUS_OK
                : error_set(err, STATUS_DATA, "%s has another type or shape than the shard says", path);
}

static int open_all_latents(struct shard_reader *reader, struct error *err) {
    const struct shard_content *content = &reader->content;
    void *block = NULL;
    TRY(memory_zeroed(&block, content->layer_count, sizeof *reader->dataset, err));
    reader->dataset = block;
    for (size_t i = 0; i < content->layer_count; i++) {
        reader->dataset[i] = H5I_INVALID_HID;
    }
    TRY(hdf5_float_type(&reader->type, content->dtype, err));
    for (size_t i = 0; i < content->layer_count; i++) {
        TRY(open_latents(reader, i, err));
    }
    return STATUS_OK;
}

int shard_reader_open(struct shard_reader **out, const char *path, struct error *err) {
    void *block = NULL;
    *out = NULL;
    TRY(memory_zeroed(&block, 1, sizeof **out, err));
    struct shard_reader *reader = block;
    reader->type = H5I_INVALID_HID;
    hdf5_quiet();
    int status;
    TRY_TO(done, status = hdf5_open(&reader->file, path, err));
    TRY_TO(done, status = hdf5_check_links(reader->file, err));
    TRY_TO(done, status = read_layout(reader, err));
    TRY_TO(done, status = read_columns(reader, err));
    TRY_TO(done, status = open_all_latents(reader, err));
done:
    if (status != STATUS_OK) {
        error_wrap(err, "%s", path);
        shard_reader_close(reader);
        return status;
    }
    *out = reader;
    return STATUS_OK;
}

void shard_reader_close(struct shard_reader *reader) {
    if (reader == NULL) {
        return;
    }
    hdf5_quiet();
    for (size_t i = 0; reader->dataset != NULL && i < reader->content.layer_count; i++) {
        H5Dclose(reader->dataset[i]);
    }
    H5Tclose(reader->type);
    H5Fclose(reader->file);
    for (size_t i = 0; i < COLUMN_COUNT; i++) {
        free(reader->column[i]);
    }
    for (size_t i = 0; i < reader->attribute_count; i++) {
        free(reader->attributes[i].name);
        free(reader->attributes[i].value);
    }
    free(reader->attributes);
    free(reader->dataset);
    free(reader->layers);
    free(reader->problems);
    free(reader->rows);
    free(reader);
}

int shard_reader_latents(struct shard_reader *reader, size_t layer, size_t first, size_t count, void *out,
                         struct error *err) {
    const struct shard_content *content = &reader->content;
    if (layer >= content->layer_count || first > content->rows || count > content->rows - first) {
        return error_set(err, STATUS_INTERNAL, "rows %zu to %zu of layer %zu are not in this shard", first,
                         first + count, layer);
    }
    if (count == 0) {
        return STATUS_OK;
    }
    char name[LAYER_NAME];
    hdf5_quiet();
    hsize_t start[2] = {first, 0};
    hsize_t extent[2] = {count, content->hidden};
    hid_t space = H5Dget_space(reader->dataset[layer]);
    hid_t memory = H5Screate_simple(2, extent, NULL);
    int status = STATUS_OK;
    if (space < 0 || memory < 0 ||
        H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, extent, NULL) < 0 ||
        H5Dread(reader->dataset[layer], reader->type, memory, space, H5P_DEFAULT, out) < 0) {
        status = hdf5_fail(err, STATUS_DATA, "cannot read rows %zu to %zu of %s", first, first + count,
                           layer_name(name, content->layers[layer], content->model_layers));
    }
    H5Sclose(memory);
    H5Sclose(space);
    return status;
}

static int read_figures(const struct shard_reader *reader, const char *group, const char *name,
                        double *values, struct error *err) {
    char path[80];
    void *data = NULL;
    size_t count = 0;
    snprintf(path, sizeof path, "%s/%s", group, name);
    TRY(hdf5_read_column(reader->file, path, HDF5_F64, &data, &count, err));
    int status = STATUS_OK;
    if (count != reader->content.hidden) {
        status = error_set(err, STATUS_DATA, "%s has %zu numbers for %zu columns", path, count,
                           reader->content.hidden);
    } else {
        memcpy(values, data, count * sizeof(double));
    }
    free(data);
    return status;
}

int shard_reader_statistics(struct shard_reader *reader, size_t layer, struct shard_statistics *out,
                            struct error *err) {
    const struct shard_content *content = &reader->content;
    if (layer >= content->layer_count) {
        return error_set(err, STATUS_INTERNAL, "layer %zu is not in this shard", layer);
    }
    const struct {
        const char *name;
        double *values;
    } parts[] = {{"sum", out->sum},
                 {"sum_of_squares", out->sum_of_squares},
                 {"minimum", out->minimum},
                 {"maximum", out->maximum}};
    char name[LAYER_NAME];
    char group[64];
    hdf5_quiet();
    snprintf(group, sizeof group, "/statistics/%s",
             layer_name(name, content->layers[layer], content->model_layers));
    TRY(hdf5_get_numbers(reader->file, group, "rows", HDF5_U64, 0, &out->rows, err));
    TRY(hdf5_get_numbers(reader->file, group, "norm_sum", HDF5_F64, 0, &out->norm_sum, err));
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        TRY(read_figures(reader, group, parts[i].name, parts[i].values, err));
    }
    return STATUS_OK;
}
