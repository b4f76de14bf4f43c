// SPDX-License-Identifier: MIT
// Which run this is: its identity against the one in the ledger, as early as it is known, and the one that
// the ledger gets.
#include <string.h>

#include "base/printable.h"
#include "start/algorithms.h"
#include "start/device_choice.h"
#include "start/launch_steps.h"
#include "start/reuse.h"
#include "start/wanted_layers.h"

// What may be done when nothing but the rows has changed.
static const char *mending_hint(const struct launch *launch, const struct identity *stored,
                                const struct identity *now, size_t differences) {
    const char *before = identity_get(stored, IDENTITY_PROBLEMS);
    const char *after = identity_get(now, IDENTITY_PROBLEMS);
    if (differences != 1 || before == NULL || after == NULL || strcmp(before, after) == 0) {
        return "";
    }
    return launch->options->retry.asked
               ? " (--retry-failed takes changed rows of failed problems alone, once the run is finished)"
               : " (if only rows of failed problems were corrected: --retry-failed)";
}

// "model.dtype, latents.layers" of lines that each begin with a key and a colon.
static int list_keys(struct buffer *out, const char *lines, struct error *err) {
    while (*lines != 0) {
        TRY(buffer_printf(out, err, "%s%.*s", out->size > 0 ? ", " : "", (int)strcspn(lines, ":\n"), lines));
        lines += strcspn(lines, "\n");
        lines += *lines == '\n';
    }
    return STATUS_OK;
}

// The first line is what the ledger keeps: it names the keys that differ.
static int refuse_other_identity(struct launch *launch, const struct identity *stored,
                                 const struct identity *now, struct error *err) {
    struct buffer lines = {0};
    struct buffer keys = {0};
    char folder[PATH_SIZE];
    size_t differences = 0;
    int status;
    TRY_TO(done, status = identity_compare(stored, now, &lines, &differences, err));
    if (differences > 0) {
        TRY_TO(done, status = list_keys(&keys, lines.data, err));
        while (lines.size > 0 && lines.data[lines.size - 1] == '\n') {
            lines.data[--lines.size] = 0;
        }
        status = error_set_lines(err, STATUS_JOB,
                                 "%s holds a run with a different identity (%.256s); resuming it would mix "
                                 "two kinds of latents\n"
                                 "%s\n"
                                 "Restore the job as it was, or choose another run.output%s",
                                 printable(folder, sizeof folder, launch->folder.path), keys.data, lines.data,
                                 mending_hint(launch, stored, now, differences));
    }
done:
    buffer_destroy(&keys);
    buffer_destroy(&lines);
    return status;
}

static int carry(const struct identity *stored, const char *key, struct identity *now, struct error *err) {
    const char *value = identity_get(stored, key);
    return value == NULL ? STATUS_OK : identity_add(now, key, value, err);
}

static int add_later_parts(const struct inputs *inputs, const struct identity *stored, enum known known,
                           struct identity *now, struct error *err) {
    char hex[DIGEST_HEX] = "";
    TRY(recorded_carry(stored, now, err));
    TRY(reuse_carry(inputs, stored, now, err));
    if (known <= KNOWN_BEFORE_FILES) {
        TRY(carry(stored, "model.fingerprint", now, err));
    }
    if (known < KNOWN_ALL) {
        return carry(stored, IDENTITY_ALGORITHMS, now, err);
    }
    TRY(algorithms_digest(inputs, hex, err));
    return hex[0] == 0 ? STATUS_OK : identity_add(now, IDENTITY_ALGORITHMS, hex, err);
}

static int check_identity(struct launch *launch, enum known known, struct identity *now, struct error *err) {
    const char *fingerprint = known <= KNOWN_BEFORE_FILES ? NULL : model_fingerprint(launch->inputs.model);
    const char *problems;
    struct identity stored = {0};
    bool found = false;
    int status;
    TRY(inputs_identity(&launch->inputs, fingerprint, now, err));
    TRY_TO(done, status = ledger_identity(launch->journal.ledger, &stored, &found, err));
    if (!found) {
        TRY_TO(done, status = launch_part_stored(launch, now, &stored, &found, err));
    }
    if (found) {
        TRY_TO(done, status = wanted_layers_adopt(&launch->inputs, &stored, now, err));
    }
    if (found && launch->retry.mended) {
        problems = identity_get(now, IDENTITY_PROBLEMS);
        TRY_TO(done, status = identity_replace(&stored, IDENTITY_PROBLEMS, problems, err));
    }
    problems = found ? identity_get(&stored, IDENTITY_PROBLEMS) : NULL;
    if (known == KNOWN_BEFORE_PROBLEMS && problems != NULL) {
        TRY_TO(done, status = identity_replace(now, IDENTITY_PROBLEMS, problems, err));
    }
    TRY_TO(done, status = add_later_parts(&launch->inputs, &stored, known, now, err));
    if (found) {
        TRY_TO(done, status = refuse_other_identity(launch, &stored, now, err));
    }
done:
    identity_destroy(&stored);
    return status;
}

// What shards of this launch say they belong to: the run's identity, and every change of the path since.
static int hash_identity(const struct inputs *inputs, struct identity *now, char hash[DIGEST_HEX],
                         struct error *err) {
    struct buffer changes = {0};
    int status;
    TRY_TO(done, status = device_trail_text(&inputs->trail, &changes, err));
    if (changes.size > 0) {
        TRY_TO(done, status = identity_add(now, "device.changes", changes.data, err));
    }
    TRY_TO(done, status = identity_hash(now, hash, err));
done:
    buffer_destroy(&changes);
    return status;
}

// Of parts that start at one moment the first one counts.
static int settle_with_parts(struct launch *launch, struct identity *now, struct error *err) {
    bool again = false;
    TRY(check_identity(launch, KNOWN_ALL, now, err));
    TRY(launch_part_share(launch, now, &again, err));
    if (again) {
        identity_destroy(now);
        TRY(check_identity(launch, KNOWN_ALL, now, err));
    }
    return STATUS_OK;
}

// The ledger gets its identity once everything is known and checked; a resume must find the same.
int launch_settle_identity(struct launch *launch, struct error *err) {
    struct inputs *inputs = &launch->inputs;
    struct ledger *ledger = launch->journal.ledger;
    struct identity now = {0};
    struct identity stored = {0};
    char hash[DIGEST_HEX];
    bool found = false;
    int status;
    TRY_TO(done, status = settle_with_parts(launch, &now, err));
    TRY_TO(done, status = device_choice_settle(inputs, &launch->journal, launch->folder.path,
                                               &launch->has_partial, err));
    TRY_TO(done, status = hash_identity(inputs, &now, hash, err));
    TRY_TO(done, status = ledger_identity(ledger, &stored, &found, err));
    TRY_TO(done, status = recorded_settle(&launch->recorded, inputs, ledger, found ? &stored : NULL, err));
    if (!found) {
        TRY_TO(done, status = reuse_store(inputs, ledger, err));
        TRY_TO(done, status = ledger_begin(ledger, &now, &inputs->survey.totals, err));
    }
    TRY_TO(done, status = algorithms_keep(inputs, ledger, err));
    if (launch->fresh) {
        TRY_TO(done, status = survey_store(ledger, &inputs->survey, err));
    }
    run_layout_make(&launch->layout, inputs, &launch->recorded, hash);
    log_write(&launch->log, LOG_LEVEL_INFO, "identity %s", hash);
done:
    identity_destroy(&stored);
    identity_destroy(&now);
    return status;
}

int launch_check_identity(struct launch *launch, enum known known, struct error *err) {
    struct identity now = {0};
    int status = check_identity(launch, known, &now, err);
    identity_destroy(&now);
    return status;
}
