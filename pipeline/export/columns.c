// SPDX-License-Identifier: MIT
#include "export/columns.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/size.h"
#include "checkpoints/layer.h"
#include "export/format.h"

enum column_needs { ALWAYS, WITH_TOKENS, WITH_MASK, AS_SHARD, SHUFFLED_ROWS, SHUFFLED_TOKENS, SHUFFLED_MASK };
enum column_length { ROWS, PROBLEMS, OFFSETS, TOKENS, ID_BYTES, METADATA_BYTES };

static const struct {
    const char *name;
    const char *path; // as in a shard
    enum array_type type;
    enum column_length length;
    enum column_needs needs;
} columns[COLUMN_COUNT] = {
    [COLUMN_STEP] = {"step", "rows/step", ARRAY_I64, ROWS, ALWAYS},
    [COLUMN_TOKEN_START] = {"token_start", "rows/token_start", ARRAY_I64, ROWS, ALWAYS},
    [COLUMN_TOKEN_END] = {"token_end", "rows/token_end", ARRAY_I64, ROWS, ALWAYS},
    [COLUMN_BYTE_START] = {"byte_start", "rows/byte_start", ARRAY_I64, ROWS, ALWAYS},
    [COLUMN_BYTE_END] = {"byte_end", "rows/byte_end", ARRAY_I64, ROWS, ALWAYS},
    [COLUMN_PROBLEM] = {"problem", "rows/problem", ARRAY_I64, ROWS, SHUFFLED_ROWS},
    [COLUMN_TOKEN_ID] = {"token_id", "rows/token_id", ARRAY_I32, ROWS, SHUFFLED_TOKENS},
    [COLUMN_TOKEN_MASK] = {"loss_mask", "rows/loss_mask", ARRAY_U8, ROWS, SHUFFLED_MASK},
    [COLUMN_ROW_OFFSET] = {"row_offset", "problems/row_offset", ARRAY_I64, OFFSETS, ALWAYS},
    [COLUMN_ORDINAL] = {"ordinal", "problems/ordinal", ARRAY_I64, PROBLEMS, ALWAYS},
    [COLUMN_TOKEN_COUNT] = {"token_count", "problems/token_count", ARRAY_I64, PROBLEMS, ALWAYS},
    [COLUMN_TRUNCATED] = {"truncated", "problems/truncated", ARRAY_U8, PROBLEMS, ALWAYS},
    [COLUMN_STEP_COUNT] = {"step_count", "problems/step_count", ARRAY_I64, PROBLEMS, ALWAYS},
    [COLUMN_TOKEN_OFFSET] = {"token_offset", "tokens/offset", ARRAY_I64, OFFSETS, WITH_TOKENS},
    [COLUMN_TOKEN_IDS] = {"token_ids", "tokens/ids", ARRAY_I32, TOKENS, WITH_TOKENS},
    [COLUMN_LOSS_MASK] = {"loss_mask", "tokens/loss_mask", ARRAY_U8, TOKENS, WITH_MASK},
    [COLUMN_ID] = {"id", "problems/id", ARRAY_U8, ID_BYTES, AS_SHARD},
    [COLUMN_ID_OFFSET] = {"id_offset", "problems/id_offset", ARRAY_I64, OFFSETS, AS_SHARD},
    [COLUMN_METADATA] = {"metadata", "problems/metadata", ARRAY_U8, METADATA_BYTES, AS_SHARD},
    [COLUMN_METADATA_OFFSET] = {"metadata_offset", "problems/metadata_offset", ARRAY_I64, OFFSETS, AS_SHARD},
};

// Rows from whatever problems have the columns of rows alone.
static bool has_column(const struct export_plan *plan, enum piece_kind kind,
                       const struct export_format *format, size_t column) {
    switch (columns[column].needs) {
    case WITH_TOKENS:
        return plan->has_tokens && kind == PIECE_PROBLEMS;
    case WITH_MASK:
        return plan->has_mask && kind == PIECE_PROBLEMS;
    case AS_SHARD:
        return format->as_shard && kind == PIECE_PROBLEMS;
    case SHUFFLED_ROWS:
        return kind == PIECE_ROWS;
    case SHUFFLED_TOKENS:
        return kind == PIECE_ROWS && plan->token_rows && plan->has_tokens;
    case SHUFFLED_MASK:
        return kind == PIECE_ROWS && plan->token_rows && plan->has_mask;
    case ALWAYS:
        break;
    }
    return kind == PIECE_PROBLEMS || columns[column].length == ROWS;
}

static uint64_t column_length(const struct export_counts *split, enum column_length length) {
    switch (length) {
    case ROWS:
        return split->rows;
    case PROBLEMS:
        return split->problems;
    case OFFSETS:
        return split->problems + 1;
    case TOKENS:
        return split->tokens;
    case ID_BYTES:
        return split->id_bytes;
    case METADATA_BYTES:
        return split->metadata_bytes;
    }
    return 0;
}

static void add_spec(struct column_set *set, const char *name, enum array_type type, uint64_t rows,
                     uint64_t width, const char *layer) {
    size_t i = set->count++;
    int length = snprintf(set->names[i], sizeof set->names[i], "%s", name);
    set->specs[i] = (struct array_spec){.name = set->names[i],
                                        .name_size = (size_t)length,
                                        .type = type,
                                        .rows = rows,
                                        .columns = width,
                                        .layer = layer};
}

static int take_memory(struct column_set *set, size_t layers, struct error *err) {
    size_t most = layers + COLUMN_COUNT;
    void *block;
    int status;
    *set = (struct column_set){0};
    TRY_TO(failed, status = memory_zeroed(&block, most, sizeof *set->specs, err));
    set->specs = block;
    TRY_TO(failed, status = memory_zeroed(&block, most, sizeof *set->names, err));
    set->names = block;
    TRY_TO(failed, status = memory_zeroed(&block, layers, sizeof *set->layers, err));
    set->layers = block;
    return STATUS_OK;
failed:
    column_set_destroy(set);
    return status;
}

int column_set_make(struct column_set *set, const struct export_plan *plan, const struct export_piece *piece,
                    const struct export_format *format, struct error *err) {
    TRY(take_memory(set, plan->layer_count, err));
    for (size_t i = 0; i < plan->layer_count; i++) {
        char layer[LAYER_NAME];
        char name[48];
        snprintf(name, sizeof name, "%s%s", format->as_shard ? "latents/" : "",
                 layer_name(layer, plan->layers[i], plan->model_layers));
        export_layer_text(plan->layers[i], plan->model_layers, set->layers[i], sizeof set->layers[i]);
        add_spec(set, name, array_type_of(plan->dtype), piece->counts.rows, plan->hidden, set->layers[i]);
    }
    for (size_t i = 0; i < COLUMN_COUNT; i++) {
        bool present = has_column(plan, piece->kind, format, i);
        set->number[i] = present ? (int)set->count : COLUMN_ABSENT;
        if (present) {
            add_spec(set, format->as_shard ? columns[i].path : columns[i].name, columns[i].type,
                     column_length(&piece->counts, columns[i].length), 0, NULL);
        }
    }
    return STATUS_OK;
}

uint64_t column_set_bytes(const struct export_plan *plan, enum piece_kind kind,
                          const struct export_counts *counts, const struct export_format *format) {
    uint64_t bytes = plan->layer_count * counts->rows * plan->hidden * dtype_size(plan->dtype);
    uint64_t arrays = plan->layer_count;
    for (size_t i = 0; i < COLUMN_COUNT; i++) {
        if (has_column(plan, kind, format, i)) {
            bytes += column_length(counts, columns[i].length) * array_type_size(columns[i].type);
            arrays++;
        }
    }
    return bytes + arrays * format->array_overhead + format->file_overhead;
}

void column_set_destroy(struct column_set *set) {
    free(set->specs);
    free(set->names);
    free(set->layers);
    *set = (struct column_set){0};
}

// ---- what the plan knows ----

// The value at a problem; offsets are asked for one past the last problem too.
static uint64_t problem_value(enum export_column column, const struct export_problem *problem) {
    switch (column) {
    case COLUMN_ROW_OFFSET:
        return problem->row_at;
    case COLUMN_ORDINAL:
        return problem->ordinal;
    case COLUMN_TOKEN_COUNT:
        return problem->tokens;
    case COLUMN_STEP_COUNT:
        return problem->steps;
    case COLUMN_TRUNCATED:
        return problem->truncated;
    case COLUMN_TOKEN_OFFSET:
        return problem->token_at;
    case COLUMN_ID_OFFSET:
        return problem->id_out_at;
    case COLUMN_METADATA_OFFSET:
        return problem->metadata_at;
    default:
        return 0;
    }
}

static uint64_t end_value(enum export_column column, const struct export_counts *split) {
    return column == COLUMN_ROW_OFFSET     ? split->rows
           : column == COLUMN_TOKEN_OFFSET ? split->tokens
           : column == COLUMN_ID_OFFSET    ? split->id_bytes
                                           : split->metadata_bytes;
}

static const enum export_column from_plan[] = {COLUMN_ROW_OFFSET, COLUMN_ORDINAL,        COLUMN_TOKEN_COUNT,
                                               COLUMN_TRUNCATED,  COLUMN_STEP_COUNT,     COLUMN_TOKEN_OFFSET,
                                               COLUMN_ID_OFFSET,  COLUMN_METADATA_OFFSET};
enum { FROM_PLAN = sizeof from_plan / sizeof from_plan[0], PLAN_BLOCK = 1024 };

// Values [first, first + count) of a column.
static int write_block(const struct column_set *set, struct array_store *store, enum export_column column,
                       uint64_t first, const int64_t values[PLAN_BLOCK], size_t count, struct error *err) {
    unsigned char narrow[PLAN_BLOCK];
    if (columns[column].type != ARRAY_U8) {
        return array_store_write(store, (size_t)set->number[column], first, count, values, err);
    }
    for (size_t i = 0; i < count; i++) {
        narrow[i] = (unsigned char)values[i];
    }
    return array_store_write(store, (size_t)set->number[column], first, count, narrow, err);
}

static int write_blocks(const struct column_set *set, struct array_store *store, uint64_t first,
                        int64_t values[FROM_PLAN][PLAN_BLOCK], size_t count, struct error *err) {
    for (size_t i = 0; i < FROM_PLAN; i++) {
        if (set->number[from_plan[i]] != COLUMN_ABSENT) {
            TRY(write_block(set, store, from_plan[i], first, values[i], count, err));
        }
    }
    return STATUS_OK;
}

static int write_ends(const struct column_set *set, struct array_store *store,
                      const struct export_counts *counts, struct error *err) {
    for (size_t i = 0; i < FROM_PLAN; i++) {
        enum export_column column = from_plan[i];
        if (set->number[column] != COLUMN_ABSENT && columns[column].length == OFFSETS) {
            int64_t end = (int64_t)end_value(column, counts);
            TRY(array_store_write(store, (size_t)set->number[column], counts->problems, 1, &end, err));
        }
    }
    return STATUS_OK;
}

int column_set_write_plan(const struct column_set *set, struct array_store *store,
                          const struct export_plan *plan, const struct export_piece *piece,
                          struct error *err) {
    int64_t values[FROM_PLAN][PLAN_BLOCK];
    uint64_t first = 0;
    size_t count = 0;
    size_t touched = 0;
    for (size_t i = piece->first; i < piece->end; i++) {
        const struct export_problem *problem = &plan->problems[i];
        export_plan_touched(plan, &touched, 1);
        if (problem->split != piece->split) {
            continue;
        }
        for (size_t k = 0; k < FROM_PLAN; k++) {
            values[k][count] = (int64_t)problem_value(from_plan[k], problem);
        }
        if (++count == PLAN_BLOCK) {
            TRY(write_blocks(set, store, first, values, count, err));
            first += count;
            count = 0;
        }
    }
    TRY(write_blocks(set, store, first, values, count, err));
    return write_ends(set, store, &piece->counts, err);
}

// ---- what a shard holds of a problem ----

static int64_t row_value(const struct shard_row *row, enum export_column column) {
    switch (column) {
    case COLUMN_STEP:
        return row->step;
    case COLUMN_TOKEN_START:
        return row->token_start;
    case COLUMN_TOKEN_END:
        return row->token_end;
    case COLUMN_BYTE_START:
        return row->byte_start;
    default:
        return row->byte_end;
    }
}

static int write_spans(const struct column_set *set, struct array_store *store,
                       const struct export_problem *problem, const struct shard_row *rows,
                       struct error *err) {
    enum { BLOCK = 512 };
    int64_t values[BLOCK];
    for (enum export_column column = COLUMN_STEP; column <= COLUMN_BYTE_END; column++) {
        for (size_t first = 0; first < problem->rows; first += BLOCK) {
            size_t count = size_min(BLOCK, problem->rows - first);
            for (size_t i = 0; i < count; i++) {
                values[i] = row_value(&rows[first + i], column);
            }
            TRY(array_store_write(store, (size_t)set->number[column], problem->row_at + first, count, values,
                                  err));
        }
    }
    return STATUS_OK;
}

static int write_values(const struct column_set *set, enum export_column column, struct array_store *store,
                        uint64_t at, const void *values, size_t count, struct error *err) {
    return set->number[column] == COLUMN_ABSENT
               ? STATUS_OK
               : array_store_write(store, (size_t)set->number[column], at, count, values, err);
}

int column_set_write_problem(const struct column_set *set, struct array_store *store,
                             const struct export_plan *plan, const struct export_problem *problem,
                             const struct shard_content *content, struct error *err) {
    const struct shard_problem *stored = &content->problem[problem->index];
    TRY(write_spans(set, store, problem, content->row + content->row_offset[problem->index], err));
    TRY(write_values(set, COLUMN_ID, store, problem->id_out_at, stored->id, stored->id_size, err));
    TRY(write_values(set, COLUMN_METADATA, store, problem->metadata_at, stored->metadata,
                     stored->metadata_size, err));
    if (!plan->has_tokens) {
        return STATUS_OK;
    }
    if (stored->tokens == NULL) {
        return error_set(err, STATUS_DATA, "problem %.*s has no tokens in its shard", (int)stored->id_size,
                         stored->id);
    }
    if (plan->has_mask && stored->loss_mask == NULL) {
        return error_set(err, STATUS_DATA, "problem %.*s has no loss mask in its shard", (int)stored->id_size,
                         stored->id);
    }
    TRY(write_values(set, COLUMN_LOSS_MASK, store, problem->token_at, stored->loss_mask, stored->token_count,
                     err));
    return write_values(set, COLUMN_TOKEN_IDS, store, problem->token_at, stored->tokens, stored->token_count,
                        err);
}

int column_set_write_row(const struct column_set *set, struct array_store *store, uint64_t at,
                         const struct export_problem *problem, const struct shard_content *content,
                         uint64_t row, struct error *err) {
    const struct shard_problem *stored = &content->problem[problem->index];
    const struct shard_row *spans = &content->row[row];
    int64_t position = problem->position;
    for (enum export_column column = COLUMN_STEP; column <= COLUMN_BYTE_END; column++) {
        int64_t value = row_value(spans, column);
        TRY(array_store_write(store, (size_t)set->number[column], at, 1, &value, err));
    }
    TRY(write_values(set, COLUMN_PROBLEM, store, at, &position, 1, err));
    if (set->number[COLUMN_TOKEN_ID] == COLUMN_ABSENT) {
        return STATUS_OK;
    }
    if (stored->tokens == NULL || spans->token_start >= stored->token_count ||
        (set->number[COLUMN_TOKEN_MASK] != COLUMN_ABSENT && stored->loss_mask == NULL)) {
        return error_set(err, STATUS_DATA, "problem %.*s has not all its tokens in its shard",
                         (int)stored->id_size, stored->id);
    }
    TRY(write_values(set, COLUMN_TOKEN_ID, store, at, &stored->tokens[spans->token_start], 1, err));
    return stored->loss_mask == NULL ? STATUS_OK
                                     : write_values(set, COLUMN_TOKEN_MASK, store, at,
                                                    &stored->loss_mask[spans->token_start], 1, err);
}
