#include "commands/problem_text.h"

#include <string.h>

#include "model/place.h"
#include "stages/prepare.h"
#include "start/folder_job.h"

static int load_tokenizer(struct tokenizer **tokenizer, const struct job *job, struct error *err) {
    char path[PATH_SIZE];
    int status = model_tokenizer_path(path, job->model_path, job->tokenizer_path, err);
    return status == STATUS_OK ? tokenizer_load(tokenizer, path, err) : status;
}

static bool same_rows(const struct prepared *prepared, const struct shard_row *rows, size_t row_count) {
    if (rows == NULL) {
        return true;
    }
    if (prepared->state != PROBLEM_DONE || prepared->row_count != row_count) {
        return false;
    }
    for (size_t i = 0; i < row_count; i++) {
        if (prepared->rows[i].byte_start != rows[i].byte_start ||
            prepared->rows[i].byte_end != rows[i].byte_end) {
            return false;
        }
    }
    return true;
}

static int render(struct buffer *text, struct source *source, struct preparer *preparer, uint64_t ordinal,
                  const char *id, size_t id_size, const struct shard_row *rows, size_t row_count,
                  struct error *err) {
    struct row row;
    struct prepared prepared;
    bool found = false;
    int status = source_skip_to(source, ordinal, err);
    if (status == STATUS_OK) {
        status = source_next(source, &row, &found, err);
    }
    if (status == STATUS_OK && !found) {
        status = error_set(err, STATUS_DATA, "the query has fewer rows now");
    }
    if (status == STATUS_OK) {
        status = prepare_row(preparer, &row, &prepared, err);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (prepared.id_size != id_size || memcmp(prepared.id, id, id_size) != 0 ||
        !same_rows(&prepared, rows, row_count)) {
        return error_set(err, STATUS_DATA, "the database has changed since the run");
    }
    return prepared.text == NULL ? error_set(err, STATUS_DATA, "it could not be rendered")
                                 : buffer_append(text, prepared.text, prepared.text_size, err);
}

int problem_text(struct buffer *text, const char *folder, struct ledger *ledger, uint64_t ordinal,
                 const char *id, size_t id_size, const struct shard_row *rows, size_t row_count,
                 struct error *err) {
    const struct watch watch = {.patience = 5};
    struct job job = {0};
    struct source *source = NULL;
    struct tokenizer *tokenizer = NULL;
    struct preparer *preparer = NULL;
    int status = folder_job_read(&job, folder, ledger, err);
    if (status == STATUS_OK) {
        status = source_open(&source, job.database, job.query, 0, &watch, err);
    }
    if (status == STATUS_OK) {
        status = load_tokenizer(&tokenizer, &job, err);
    }
    if (status == STATUS_OK) {
        status = preparer_create(&preparer, &job, source, tokenizer, tokenizer_id_limit(tokenizer), err);
    }
    if (status == STATUS_OK) {
        status = render(text, source, preparer, ordinal, id, id_size, rows, row_count, err);
    }
    preparer_destroy(preparer);
    tokenizer_destroy(tokenizer);
    source_close(source);
    job_destroy(&job);
    return status;
}
