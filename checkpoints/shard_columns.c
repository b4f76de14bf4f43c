// SPDX-License-Identifier: MIT
#include "checkpoints/shard_columns.h"

#include "base/size.h"

// chunk is in numbers. It decides the bytes of a file with more of them: changing one is a change of
// SHARD_FORMAT.
static const struct {
    const char *path;
    enum hdf5_kind kind;
    size_t chunk;
} table[COLUMN_COUNT] = {
    [COLUMN_ID] = {"/problems/id", HDF5_U8, 1 << 18},
    [COLUMN_ID_OFFSET] = {"/problems/id_offset", HDF5_U64, 1 << 14},
    [COLUMN_METADATA] = {"/problems/metadata", HDF5_U8, 1 << 18},
    [COLUMN_METADATA_OFFSET] = {"/problems/metadata_offset", HDF5_U64, 1 << 14},
    [COLUMN_ORDINAL] = {"/problems/ordinal", HDF5_U64, 1 << 14},
    [COLUMN_ROW_OFFSET] = {"/problems/row_offset", HDF5_U64, 1 << 14},
    [COLUMN_TOKEN_COUNT] = {"/problems/token_count", HDF5_U32, 1 << 15},
    [COLUMN_TRUNCATED] = {"/problems/truncated", HDF5_U8, 1 << 16},
    [COLUMN_STEP_COUNT] = {"/problems/step_count", HDF5_U32, 1 << 15},
    [COLUMN_ROW_STEP] = {"/rows/step", HDF5_U32, 1 << 15},
    [COLUMN_ROW_TOKEN_START] = {"/rows/token_start", HDF5_U32, 1 << 15},
    [COLUMN_ROW_TOKEN_END] = {"/rows/token_end", HDF5_U32, 1 << 15},
    [COLUMN_ROW_BYTE_START] = {"/rows/byte_start", HDF5_U32, 1 << 15},
    [COLUMN_ROW_BYTE_END] = {"/rows/byte_end", HDF5_U32, 1 << 15},
    [COLUMN_BATCH_NUMBER] = {"/batches/number", HDF5_U64, 1 << 12},
    [COLUMN_BATCH_OFFSET] = {"/batches/problem_offset", HDF5_U64, 1 << 12},
    [COLUMN_TOKEN_IDS] = {"/tokens/ids", HDF5_I32, 1 << 16},
    [COLUMN_TOKEN_OFFSET] = {"/tokens/offset", HDF5_U64, 1 << 14},
    [COLUMN_LOSS_MASK] = {"/tokens/loss_mask", HDF5_U8, 1 << 16},
};

const char *shard_column_path(enum shard_column column) {
    return table[column].path;
}

enum hdf5_kind shard_column_kind(enum shard_column column) {
    return table[column].kind;
}

size_t shard_columns_kept(bool token_ids, bool loss_mask) {
    return !token_ids ? COLUMN_TOKEN_IDS : !loss_mask ? COLUMN_LOSS_MASK : COLUMN_COUNT;
}

size_t shard_columns_bytes(size_t kept) {
    size_t total = 0;
    for (size_t i = 0; i < kept; i++) {
        size_t bytes = 0;
        column_bytes(hdf5_kind_size(table[i].kind), 0, table[i].chunk, &bytes);
        total += bytes;
    }
    return total;
}

int shard_columns_init(struct shard_columns *columns, size_t kept, struct arena *arena, struct error *err) {
    columns->count = kept;
    columns->tokens = 0;
    columns->rows_end = 0;
    for (size_t i = 0; i < columns->count; i++) {
        int status = column_init(&columns->column[i], table[i].path, hdf5_kind_type(table[i].kind), 0,
                                 table[i].chunk, arena, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static int append(struct shard_columns *columns, hid_t file, enum shard_column which, const void *values,
                  size_t count, struct error *err) {
    return column_append(&columns->column[which], file, values, count, err);
}

static int append_u64(struct shard_columns *columns, hid_t file, enum shard_column which, uint64_t value,
                      struct error *err) {
    return append(columns, file, which, &value, 1, err);
}

int shard_columns_start(struct shard_columns *columns, hid_t file, struct error *err) {
    static const enum shard_column offsets[] = {COLUMN_ID_OFFSET, COLUMN_METADATA_OFFSET, COLUMN_ROW_OFFSET,
                                                COLUMN_BATCH_OFFSET, COLUMN_TOKEN_OFFSET};
    static const char *const groups[] = {"/problems", "/rows", "/batches", "/tokens"};
    bool token_ids = columns->count > COLUMN_TOKEN_IDS;
    columns->tokens = 0;
    columns->rows_end = 0;
    for (size_t i = 0; i < columns->count; i++) {
        column_reset(&columns->column[i]);
    }
    for (size_t i = 0; i < (token_ids ? 4 : 3); i++) {
        TRY(hdf5_make_group(file, groups[i], err));
    }
    for (size_t i = 0; i < (token_ids ? 5 : 4); i++) {
        TRY(append_u64(columns, file, offsets[i], 0, err));
    }
    return STATUS_OK;
}

static int append_problem_numbers(struct shard_columns *columns, hid_t file,
                                  const struct shard_problem *problem, struct error *err) {
    uint8_t truncated = problem->truncated;
    TRY(append_u64(columns, file, COLUMN_ORDINAL, problem->ordinal, err));
    TRY(append(columns, file, COLUMN_TOKEN_COUNT, &problem->token_count, 1, err));
    TRY(append(columns, file, COLUMN_TRUNCATED, &truncated, 1, err));
    return append(columns, file, COLUMN_STEP_COUNT, &problem->step_count, 1, err);
}

int shard_columns_problem(struct shard_columns *columns, hid_t file, const struct shard_problem *problem,
                          struct error *err) {
    struct column *column = columns->column;
    uint64_t rows = columns->rows_end + problem->rows;
    int status;
    TRY_TO(done, status = append(columns, file, COLUMN_ID, problem->id, problem->id_size, err));
    TRY_TO(done, status = append_u64(columns, file, COLUMN_ID_OFFSET, column_rows(&column[COLUMN_ID]), err));
    TRY_TO(done,
           status = append(columns, file, COLUMN_METADATA, problem->metadata, problem->metadata_size, err));
    TRY_TO(done, status = append_u64(columns, file, COLUMN_METADATA_OFFSET,
                                     column_rows(&column[COLUMN_METADATA]), err));
    if (columns->count > COLUMN_LOSS_MASK) {
        TRY_TO(done, status = append(columns, file, COLUMN_LOSS_MASK, problem->loss_mask,
                                     problem->token_count, err));
    }
    if (columns->count > COLUMN_TOKEN_IDS) {
        TRY_TO(done,
               status = append(columns, file, COLUMN_TOKEN_IDS, problem->tokens, problem->token_count, err));
        TRY_TO(done, status = append_u64(columns, file, COLUMN_TOKEN_OFFSET,
                                         column_rows(&column[COLUMN_TOKEN_IDS]), err));
    }
    TRY_TO(done, status = append_u64(columns, file, COLUMN_ROW_OFFSET, rows, err));
    TRY_TO(done, status = append_problem_numbers(columns, file, problem, err));
done:
    columns->rows_end = rows;
    columns->tokens += problem->token_count;
    return status;
}

int shard_columns_row(struct shard_columns *columns, hid_t file, const struct shard_row *row,
                      struct error *err) {
    const uint32_t values[] = {row->step, row->token_start, row->token_end, row->byte_start, row->byte_end};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        TRY(append(columns, file, (enum shard_column)(COLUMN_ROW_STEP + i), &values[i], 1, err));
    }
    return STATUS_OK;
}

int shard_columns_batch(struct shard_columns *columns, hid_t file, uint64_t number, struct error *err) {
    TRY(append_u64(columns, file, COLUMN_BATCH_NUMBER, number, err));
    return append_u64(columns, file, COLUMN_BATCH_OFFSET, shard_columns_problems(columns), err);
}

int shard_columns_finish(struct shard_columns *columns, hid_t file, struct error *err) {
    for (size_t i = 0; i < columns->count; i++) {
        TRY(column_finish(&columns->column[i], file, err));
    }
    return STATUS_OK;
}

uint64_t shard_columns_problems(const struct shard_columns *columns) {
    return column_rows(&columns->column[COLUMN_ORDINAL]);
}

uint64_t shard_columns_rows(const struct shard_columns *columns) {
    return column_rows(&columns->column[COLUMN_ROW_STEP]);
}
