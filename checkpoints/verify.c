// SPDX-License-Identifier: MIT
#include "checkpoints/verify.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"
#include "base/file.h"
#include "base/printable.h"
#include "base/size.h"
#include "checkpoints/folder_content.h"
#include "checkpoints/layer.h"
#include "checkpoints/ledger.h"
#include "checkpoints/run_folder.h"
#include "checkpoints/shard_reader.h"

struct verification {
    const char *folder;
    struct ledger *ledger;
    struct verify_listener to;
    struct error *err;
    uint64_t shards; // of the ledger, checked so far
};

void verify_say(const struct verify_listener *to, enum verify_kind kind, const char *format, ...) {
    char text[2048];
    char line[2 * sizeof text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    printable(line, sizeof line, text); // a damaged ledger holds any bytes
    *(kind == VERIFY_FAULT ? &to->report->faults : &to->report->notes) += 1;
    to->tell(to->context, kind, line);
}

// A finding of the ledger's own checks is a fault; that they could not be made (no memory, a busy ledger) is
// an error.
static int as_finding(struct verification *check, int status) {
    if (status != STATUS_DATA) {
        return status;
    }
    verify_say(&check->to, VERIFY_FAULT, "%s", check->err->message);
    return STATUS_OK;
}

// ---- one shard against its problems in the ledger ----

struct comparison {
    struct verification *check;
    const struct ledger_shard *shard;
    const struct shard_content *content;
    size_t problems; // of the ledger, compared so far
};

// Problems of the ledger have ids of their own, so that no two of them agree with one place of the shard: as
// many as it holds, each in agreement, are all of it.
static int compare_problem(void *context, const struct ledger_problem *wanted) {
    struct comparison *comparison = context;
    const struct shard_content *content = comparison->content;
    const char *name = comparison->shard->sealed.name;
    size_t place = wanted->index;
    comparison->problems++;
    int id_size = (int)size_min(wanted->id_size, 200);
    if (place >= content->problems) {
        verify_say(&comparison->check->to, VERIFY_FAULT,
                   "shard %s: problem '%.*s' of the ledger is not in it", name, id_size, wanted->id);
        return STATUS_OK;
    }
    const struct shard_problem *got = &content->problem[place];
    if (got->id_size != wanted->id_size || memcmp(got->id, wanted->id, wanted->id_size) != 0) {
        verify_say(&comparison->check->to, VERIFY_FAULT,
                   "shard %s: problem %zu is '%.*s', the ledger says '%.*s'", name, place,
                   (int)size_min(got->id_size, 200), got->id, id_size, wanted->id);
    } else if (got->ordinal != wanted->ordinal || got->token_count != wanted->tokens ||
               got->rows != wanted->rows || got->step_count != wanted->steps ||
               got->truncated != wanted->truncated) {
        verify_say(&comparison->check->to, VERIFY_FAULT,
                   "shard %s: problem '%.*s' has other counts than in the ledger", name, id_size, wanted->id);
    }
    return STATUS_OK;
}

static void compare_counts(struct verification *check, const struct ledger_shard *shard,
                           const struct shard_content *content) {
    const char *name = shard->sealed.name;
    uint64_t tokens = 0;
    for (size_t i = 0; i < content->problems; i++) {
        tokens += content->problem[i].token_count;
    }
    if (content->number != shard->number) {
        verify_say(&check->to, VERIFY_FAULT, "shard %s: says it is shard %" PRIu64, name, content->number);
    }
    if (content->problems != shard->sealed.problems || content->rows != shard->sealed.rows ||
        tokens != shard->sealed.tokens) {
        verify_say(&check->to, VERIFY_FAULT,
                   "shard %s: %zu problems, %zu rows, %" PRIu64 " tokens; the ledger says %" PRIu64
                   ", %" PRIu64 ", %" PRIu64,
                   name, content->problems, content->rows, tokens, shard->sealed.problems, shard->sealed.rows,
                   shard->sealed.tokens);
    }
    if (content->batches != shard->batches) {
        verify_say(&check->to, VERIFY_FAULT, "shard %s: %zu batches, the ledger says %" PRIu64, name,
                   content->batches, shard->batches);
    }
    for (size_t i = 0; i < content->batches; i++) {
        if (content->batch_number[i] != shard->first_batch + i) {
            verify_say(&check->to, VERIFY_FAULT, "shard %s: batch %" PRIu64 " where %" PRIu64 " was expected",
                       name, content->batch_number[i], shard->first_batch + i);
            break;
        }
    }
}

// A number is not finite when its exponent is all ones.
static size_t first_not_finite(const void *values, enum dtype dtype, size_t count) {
    const uint16_t *half = values;
    const uint32_t *full = values;
    uint16_t exponent = dtype == DTYPE_F16 ? 0x7c00 : 0x7f80;
    for (size_t i = 0; i < count; i++) {
        bool bad =
            dtype == DTYPE_F32 ? (full[i] & 0x7f800000u) == 0x7f800000u : (half[i] & exponent) == exponent;
        if (bad) {
            return i;
        }
    }
    return count;
}

static const struct shard_problem *owner(const struct shard_content *content, size_t row) {
    size_t low = 0;
    for (size_t high = content->problems; high - low > 1;) {
        size_t middle = low + (high - low) / 2;
        if (content->row_offset[middle] <= row) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return &content->problem[low];
}

static int check_values(struct verification *check, struct shard_reader *reader, const char *name,
                        size_t layer, void *block, size_t block_rows) {
    const struct shard_content *content = shard_reader_content(reader);
    for (size_t first = 0; first < content->rows; first += block_rows) {
        size_t rows = size_min(block_rows, content->rows - first);
        size_t count = rows * content->hidden;
        int status = shard_reader_latents(reader, layer, first, rows, block, check->err);
        if (status == STATUS_DATA) {
            verify_say(&check->to, VERIFY_FAULT, "shard %s: %s", name, check->err->message);
            return STATUS_OK;
        }
        if (status != STATUS_OK) {
            return status;
        }
        size_t bad = first_not_finite(block, content->dtype, count);
        if (bad < count) {
            char called[LAYER_NAME];
            size_t row = first + bad / content->hidden;
            const struct shard_problem *problem = owner(content, row);
            verify_say(&check->to, VERIFY_FAULT, "shard %s: problem '%.*s', row %zu of %s is not finite",
                       name, (int)size_min(problem->id_size, 200), problem->id, row,
                       layer_name(called, content->layers[layer], content->model_layers));
            return STATUS_OK;
        }
    }
    return STATUS_OK;
}

static int check_latents(struct verification *check, struct shard_reader *reader, const char *name) {
    enum { BLOCK = 4 << 20 };
    const struct shard_content *content = shard_reader_content(reader);
    size_t row_size = content->hidden * dtype_size(content->dtype);
    size_t rows = size_max(BLOCK / row_size, 1);
    void *block = NULL;
    int status;
    TRY_TO(done, status = memory_zeroed(&block, rows, row_size, check->err));
    for (size_t i = 0; i < content->layer_count; i++) {
        TRY_TO(done, status = check_values(check, reader, name, i, block, rows));
    }
done:
    free(block);
    return status;
}

// A loss mask is the tokens that steps own: those of the rows where a row is a step's mean (`whole`), else
// stretches that end with a row's token.
static bool mask_fits(const struct shard_content *content, size_t i, bool whole) {
    const struct shard_problem *problem = &content->problem[i];
    const uint8_t *mask = problem->loss_mask;
    uint32_t token = 0;
    for (uint64_t r = content->row_offset[i]; r < content->row_offset[i + 1]; r++) {
        const struct shard_row *row = &content->row[r];
        while (token < row->token_start && mask[token] == 0) {
            token++;
        }
        if (whole && token != row->token_start) {
            return false;
        }
        while (token < row->token_end && mask[token] == 1) {
            token++;
        }
        if (token != row->token_end) {
            return false;
        }
    }
    return memchr(mask + token, 1, problem->token_count - token) == NULL;
}

// Of the poolings that keep steps; the rows of others do not tell of them.
static void check_masks(struct verification *check, const struct shard_reader *reader, const char *name) {
    const struct shard_content *content = shard_reader_content(reader);
    const char *pooling = shard_reader_attribute(reader, "pooling");
    bool whole = pooling != NULL && strcmp(pooling, "step_mean") == 0;
    if (!whole && (pooling == NULL || strcmp(pooling, "last_of_step") != 0)) {
        return;
    }
    for (size_t i = 0; i < content->problems; i++) {
        const struct shard_problem *problem = &content->problem[i];
        if (problem->loss_mask != NULL && !mask_fits(content, i, whole)) {
            verify_say(&check->to, VERIFY_FAULT,
                       "shard %s: the loss mask of problem '%.*s' is not that of its steps", name,
                       (int)size_min(problem->id_size, 200), problem->id);
            return;
        }
    }
}

static int check_content(struct verification *check, const struct ledger_shard *shard, const char *path) {
    struct shard_reader *reader = NULL;
    int status = shard_reader_open(&reader, path, check->err);
    if (status == STATUS_DATA) {
        verify_say(&check->to, VERIFY_FAULT, "shard %s: %s", shard->sealed.name, check->err->message);
        return STATUS_OK;
    }
    if (status != STATUS_OK) {
        return status;
    }
    struct comparison comparison = {.check = check, .shard = shard, .content = shard_reader_content(reader)};
    compare_counts(check, shard, comparison.content);
    TRY_TO(done, status = ledger_each_problem_of_shard(check->ledger, shard->number, compare_problem,
                                                       &comparison, check->err));
    if (comparison.problems != comparison.content->problems) {
        verify_say(&check->to, VERIFY_FAULT, "shard %s: holds %zu problems, the ledger lists %zu",
                   shard->sealed.name, comparison.content->problems, comparison.problems);
    }
    check_masks(check, reader, shard->sealed.name);
    TRY_TO(done, status = check_latents(check, reader, shard->sealed.name));
done:
    shard_reader_close(reader);
    return status;
}

static int check_shard(void *context, const struct ledger_shard *shard) {
    struct verification *check = context;
    const struct shard_sealed *sealed = &shard->sealed;
    char path[PATH_SIZE];
    char name[RUN_FOLDER_NAME];
    char hex[DIGEST_HEX];
    uint64_t bytes = 0;
    run_folder_shard_name(name, check->shards, false);
    if (shard->number != check->shards || strcmp(name, sealed->name) != 0) {
        verify_say(&check->to, VERIFY_FAULT, "the ledger lists shard %s where %s was expected", sealed->name,
                   name);
    }
    check->shards = shard->number + 1;
    check->to.report->shards++;
    check->to.report->problems += sealed->problems;
    check->to.report->rows += sealed->rows;
    TRY(run_folder_shard(path, check->folder, shard->number, false, check->err));
    int status;
    TRY_TO(done, status = file_size(path, &bytes, check->err));
    TRY_TO(done, status = digest_file(path, hex, check->err));
done:
    if (status == STATUS_DATA) {
        verify_say(&check->to, VERIFY_FAULT, "shard %s: %s", sealed->name,
                   file_exists(path) ? check->err->message : "missing");
        return STATUS_OK;
    }
    if (status != STATUS_OK) {
        return status;
    }
    check->to.report->bytes += bytes;
    if (bytes != sealed->bytes) {
        verify_say(&check->to, VERIFY_FAULT, "shard %s: %" PRIu64 " bytes, the ledger says %" PRIu64,
                   sealed->name, bytes, sealed->bytes);
        return STATUS_OK;
    }
    if (strcmp(hex, sealed->sha256) != 0) {
        // Not opened: HDF5 may crash on damaged bytes.
        verify_say(&check->to, VERIFY_FAULT,
                   "shard %s: its bytes were changed (SHA-256 %.16s..., the ledger says %.16s...)",
                   sealed->name, hex, sealed->sha256);
        return STATUS_OK;
    }
    return check_content(check, shard, path);
}

// ---- the run as a whole ----

// Every file name in shards/, each followed by a 0.
static int list_names(struct buffer *names, const char *folder, struct error *err) {
    char path[PATH_SIZE];
    int status = run_folder_file(path, folder, "shards", err);
    if (status != STATUS_OK) {
        return status;
    }
    DIR *listing = opendir(path);
    if (listing == NULL) {
        // Without a folder there is no ledger either, which says it better.
        return errno == ENOENT || errno == ENOTDIR
                   ? STATUS_OK
                   : error_set_errno(err, STATUS_DATA, "cannot list %s", path);
    }
    const struct dirent *entry;
    while (status == STATUS_OK && (entry = readdir(listing)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            status = buffer_append(names, entry->d_name, strlen(entry->d_name) + 1, err);
        }
    }
    closedir(listing);
    return status;
}

// What lies in shards/ beside the acknowledged files is no part of the run: a runner at work has an open
// shard, or one sealed and not yet acknowledged (or acknowledged since the ledger was looked at), and a
// runner that was killed leaves its own behind, which the next launch removes.
static void check_others(struct verification *check, const struct buffer *names, const char *partial,
                         bool busy) {
    for (size_t i = 0; i < names->size; i += strlen(names->data + i) + 1) {
        const char *name = names->data + i;
        uint64_t number;
        bool is_partial;
        bool shard = run_folder_parse_shard(name, &number, &is_partial);
        bool known = shard && (is_partial ? strcmp(name, partial) == 0 : number < check->shards);
        bool ours = shard || folder_content_is_aside(name, true);
        if (known || (ours && busy)) {
            continue;
        }
        verify_say(
            &check->to, VERIFY_NOTE, "shards/%s: %s", name,
            ours ? "not acknowledged: a run that was stopped short left it, and the next launch removes it"
                 : "the ledger does not know this file");
    }
}

static int check_partial(struct verification *check, char name[64], bool busy) {
    struct ledger_partial partial;
    struct buffer memory = {0};
    bool found = false;
    char path[PATH_SIZE];
    char hex[DIGEST_HEX] = "";
    int status = ledger_partial(check->ledger, &partial, &memory, &found, check->err);
    buffer_destroy(&memory);
    name[0] = 0;
    if (status != STATUS_OK || !found) {
        return status;
    }
    snprintf(name, 64, "%s", partial.name);
    status = run_folder_shard(path, check->folder, partial.shard, true, check->err);
    if (status != STATUS_OK || busy) {
        return status;
    }
    status = digest_file(path, hex, check->err);
    if (status == STATUS_DATA || (status == STATUS_OK && strcmp(hex, partial.sha256) != 0)) {
        verify_say(
            &check->to, VERIFY_NOTE,
            "shards/%s: the partial shard of a clean stop is missing or changed (it will be computed again)",
            name);
        status = STATUS_OK;
    }
    return status;
}

static int check_totals(struct verification *check) {
    struct ledger_totals totals;
    struct ledger_survey survey;
    bool found = false;
    TRY(ledger_totals(check->ledger, &totals, check->err));
    TRY(ledger_survey(check->ledger, &survey, &found, check->err));
    uint64_t known = totals.done + totals.failed + totals.skipped;
    if (totals.finished && found && known != survey.problems) {
        verify_say(&check->to, VERIFY_FAULT,
                   "the run is finished, and %" PRIu64 " of %" PRIu64 " problems are accounted for", known,
                   survey.problems);
    }
    if (totals.done != check->to.report->problems) {
        verify_say(&check->to, VERIFY_FAULT,
                   "%" PRIu64 " problems are done in the ledger, its shards hold %" PRIu64, totals.done,
                   check->to.report->problems);
    }
    return STATUS_OK;
}

// Its chain, its sums and, unless it is large and somebody waits to write to it, its pages.
static int check_ledger(struct verification *check, bool busy) {
    enum { PAGES_MOST = 128 << 20 };
    uint64_t bytes = 0;
    // The chain comes first: a link names the shard at fault, which the page check cannot.
    int status;
    TRY_TO(done, status = as_finding(check, ledger_check_chain(check->ledger, check->err)));
    if (check->to.report->faults == 0) {
        TRY_TO(done, status = as_finding(check, ledger_check_totals(check->ledger, check->err)));
    }
    TRY_TO(done, status = file_size(ledger_path(check->ledger), &bytes, check->err));
done:
    if (status != STATUS_OK || check->to.report->faults > 0) {
        return status;
    }
    if (busy && bytes > PAGES_MOST) {
        verify_say(&check->to, VERIFY_NOTE,
                   "the ledger's pages were not checked, which would keep the run from its commits");
        return STATUS_OK;
    }
    return as_finding(check, ledger_check_pages(check->ledger, check->err));
}

static int check_all(struct verification *check, const struct buffer *names, bool busy) {
    char partial[64];
    int status;
    TRY_TO(done, status = check_ledger(check, busy));
    TRY_TO(done, status = ledger_each_shard(check->ledger, check_shard, check, check->err));
    TRY_TO(done, status = check_partial(check, partial, busy));
    check_others(check, names, partial, busy);
    TRY_TO(done, status = check_totals(check));
done:
    // The ledger stopped making sense half-way: that is a finding, not a failure to look.
    return as_finding(check, status);
}

int verify_run(const char *folder, verify_tell tell, void *context, struct verify_report *report,
               struct error *err) {
    struct verification check = {.folder = folder, .to = {tell, context, report}, .err = err};
    struct buffer names = {0};
    *report = (struct verify_report){0};
    bool busy = run_folder_busy(folder);
    int status;
    TRY_TO(done, status = list_names(&names, folder, err));
    if (busy && folder_content_lacks_ledger(folder)) {
        verify_say(&check.to, VERIFY_NOTE, "the runner at work has recorded nothing yet");
        goto done;
    }
    TRY_TO(done, status = ledger_open_read(&check.ledger, folder, err));
    if (ledger_elsewhere(check.ledger)[0] != 0) {
        verify_say(&check.to, VERIFY_NOTE, "%s, or was killed there: what was acknowledged before is checked",
                   ledger_elsewhere(check.ledger));
        busy = true;
    }
    TRY_TO(done, status = check_all(&check, &names, busy));
done:
    ledger_close(check.ledger);
    buffer_destroy(&names);
    return status;
}
