// SPDX-License-Identifier: MIT
#include "job/job.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/first_bytes.h"
#include "job/keys.h"

enum { JOB_FILE_LIMIT = 1 << 20 };

static const char default_steps_column[] = "steps";
static const char default_steps_separator[] = "\n";
static const char default_steps_pattern[] = "Step\\s+\\d+:"; // as R-JEPA marks its steps

// Everything job_parse knows beside the job: where each key was written.
struct check {
    struct job *job;
    const char *name;
    struct job_place places[JOB_KEY_MAXIMUM];
    struct job_place sections[JOB_KEY_MAXIMUM];
    struct error *err;
};

static int set_defaults(struct job *job, struct error *err) {
    for (size_t i = 0; i < job_key_count; i++) {
        const struct job_key *key = &job_keys[i];
        if (key->standard == NULL) {
            continue;
        }
        struct job_item item = {
            .text = (char *)(uintptr_t)key->standard, .size = strlen(key->standard), .plain = true};
        struct job_value value = {.items = &item, .count = 1};
        size_t at;
        if (job_key_assign(job, key, &value, &at, err) != STATUS_OK) {
            error_wrap(err, "the default of %s.%s", key->section, key->name);
            err->status = STATUS_INTERNAL;
            return STATUS_INTERNAL;
        }
    }
    return STATUS_OK;
}

static struct job_place place_of(const struct check *check, const char *section, const char *name) {
    return check->places[job_key_find(section, name) - job_keys];
}

static bool given(const struct check *check, const char *section, const char *name) {
    return place_of(check, section, name).line != 0;
}

static int fail_at(struct check *check, struct job_place place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int fail_at(struct check *check, struct job_place place, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (place.line == 0) { // nothing of it was written: the file as a whole lacks it
        place = (struct job_place){.line = 1, .column = 1};
    }
    return error_set(check->err, STATUS_JOB, "%s:%zu:%zu: %s", check->name, place.line, place.column, text);
}

static int check_required(struct check *check) {
    for (size_t i = 0; i < job_key_count; i++) {
        const struct job_key *key = &job_keys[i];
        if (key->required && check->places[i].line == 0) {
            struct job_place section = check->sections[job_section_find(key->section) - job_sections];
            return fail_at(check, section, "%s.%s is missing (%s)", key->section, key->name, key->help);
        }
    }
    return STATUS_OK;
}

// How often the template names {steps}; doubled braces are text.
static size_t count_steps(const char *text) {
    static const char name[] = "{steps}";
    size_t count = 0;
    for (const char *at = text; *at != 0; at++) {
        if (at[0] == '{' && at[1] == '{') {
            at++;
        } else if (strncmp(at, name, sizeof name - 1) == 0) {
            count++;
        }
    }
    return count;
}

// Spans are of the text as it is rendered, so that nothing may be put into it.
static int check_spans(struct check *check) {
    const struct job *job = check->job;
    static const char *const others[] = {"column", "pattern", "separator"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (given(check, "problems.steps", others[i])) {
            return fail_at(check, place_of(check, "problems.steps", others[i]),
                           "problems.steps has both spans and a %s: choose one", others[i]);
        }
    }
    if (job->steps_roles != NULL && job->steps_role_count == 0) {
        return fail_at(check, place_of(check, "problems.steps", "roles"),
                       "problems.steps.roles names no role");
    }
    if (count_steps(job->text) > 0) {
        bool own = given(check, "problems", "text");
        return fail_at(check,
                       own ? place_of(check, "problems", "text") : place_of(check, "problems.steps", "spans"),
                       "problems.text%s has {steps}, which stands for the steps of a column: with "
                       "problems.steps.spans it "
                       "must name the columns of the text whose bytes the spans count",
                       own ? "" : " (the default)");
    }
    return STATUS_OK;
}

static int check_steps(struct check *check) {
    struct job *job = check->job;
    size_t uses = count_steps(job->text);
    if (job->steps_spans != NULL) {
        return check_spans(check);
    }
    if (job->steps_roles != NULL) {
        return fail_at(check, place_of(check, "problems.steps", "roles"),
                       "problems.steps.roles chooses among problems.steps.spans, which is missing");
    }
    if (job->steps_pattern != NULL && job->steps_column != NULL) {
        return fail_at(check, place_of(check, "problems.steps", "pattern"),
                       "problems.steps has both a column and a pattern: choose one");
    }
    if (job->steps_pattern != NULL && job->steps_separator != NULL) {
        return fail_at(check, place_of(check, "problems.steps", "separator"),
                       "problems.steps.separator joins the steps of a column, not those of a pattern");
    }
    bool from_column =
        job->steps_pattern == NULL && (job->steps_column != NULL || job->steps_separator != NULL || uses > 0);
    if (!from_column) {
        return job->steps_pattern != NULL
                   ? STATUS_OK
                   : memory_text(&job->steps_pattern, default_steps_pattern, check->err);
    }
    if (uses != 1) {
        struct job_place place = given(check, "problems", "text")
                                     ? place_of(check, "problems", "text")
                                     : place_of(check, "problems.steps", "column");
        return fail_at(check, place,
                       "problems.text has {steps} %zu times; with steps from a column it must appear once",
                       uses);
    }
    if (job->steps_column == NULL) {
        TRY(memory_text(&job->steps_column, default_steps_column, check->err));
    }
    return job->steps_separator != NULL
               ? STATUS_OK
               : memory_text(&job->steps_separator, default_steps_separator, check->err);
}

// a.name >= b.name; the message stands where one of them was written.
static int check_at_least(struct check *check, const char *section, const char *name, int64_t value,
                          const char *least_section, const char *least_name, int64_t least, const char *why) {
    if (value >= least) {
        return STATUS_OK;
    }
    bool own = given(check, section, name);
    bool other = given(check, least_section, least_name);
    return fail_at(check, own ? place_of(check, section, name) : place_of(check, least_section, least_name),
                   "%s.%s (%lld%s) is less than %s.%s (%lld%s): %s", section, name, (long long)value,
                   own ? "" : ", the default", least_section, least_name, (long long)least,
                   other ? "" : ", the default", why);
}

static bool uses_device(const struct job *job, const char *name) {
    const char *first = job->devices[0];
    if (strcmp(first, "cuda:all") == 0) { // known when they are opened
        return true;
    }
    if (strcmp(first, "auto") == 0) { // takes no other
        return strcmp(name, "cuda:0") == 0;
    }
    for (size_t i = 0; i < job->device_count; i++) {
        if (strcmp(job->devices[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static int check_device_memory(struct check *check) {
    const struct job *job = check->job;
    for (size_t i = 0; i < job->device_memory_count; i++) {
        if (!uses_device(job, job->device_memory[i].device)) {
            return fail_at(check, place_of(check, "run", "memory_gb"),
                           "run.memory_gb names %s, which is not among model.device",
                           job->device_memory[i].device);
        }
    }
    return STATUS_OK;
}

// How many GPUs cuda:all has is known later (shares_choose).
static int check_split(struct check *check) {
    const struct job *job = check->job;
    if (job->split != JOB_SPLIT_LAYERS || job->weights == JOB_WEIGHTS_RESIDENT || job->device_count == 1) {
        return STATUS_OK;
    }
    return fail_at(check, place_of(check, "model", "split"),
                   "model.split: layers needs weights that are resident: with model.weights: %s every device "
                   "takes each block in turn (model.split: batches)",
                   job_weights_name((enum job_weights)job->weights));
}

// Keys and values are kept as they are computed, or in blocks. A name of the first is `auto` from here on:
// what a run is known by does not depend on which of the two was written.
static int check_keep(struct check *check) {
    static const enum dtype dtypes[] = {
        [JOB_KEEP_BF16] = DTYPE_BF16, [JOB_KEEP_F16] = DTYPE_F16, [JOB_KEEP_F32] = DTYPE_F32};
    struct job *job = check->job;
    bool is_dtype = job->prefix_keep >= JOB_KEEP_BF16 && job->prefix_keep <= JOB_KEEP_F32;
    if (!is_dtype) {
        return STATUS_OK;
    }
    if (dtypes[job->prefix_keep] == job->dtype) {
        job->prefix_keep = JOB_KEEP_AUTO;
        return STATUS_OK;
    }
    return fail_at(check, place_of(check, "batch.prefix", "keep"),
                   "batch.prefix.keep is %s, and model.dtype is %s, in which keys and values are computed: "
                   "keep: auto keeps them as they are, q8_0 and q4_0 in fewer bits",
                   job_keep_name((enum job_keep)job->prefix_keep), dtype_name(job->dtype));
}

static int check_job(struct check *check) {
    struct job *job = check->job;
    TRY(check_required(check));
    TRY(check_steps(check));
    if (job->loss_mask && !job->token_ids) {
        return fail_at(check, place_of(check, "latents", "loss_mask"),
                       "latents.loss_mask lies beside the token ids: it needs latents.token_ids: true");
    }
    TRY(check_device_memory(check));
    TRY(check_split(check));
    TRY(check_keep(check));
    if (job->batch_window > 0) {
        TRY(check_at_least(check, "batch", "window", job->batch_window, "batch", "problems",
                           job->batch_problems, "a batch is packed from one window"));
    }
    return STATUS_OK;
}

int job_parse(struct job *job, const char *text, size_t size, const char *name, const char *folder,
              struct error *err) {
    struct check check = {.job = job, .name = name, .err = err};
    *job = (struct job){.source_size = size};
    void *source;
    int status;
    TRY_TO(failed, status = memory_text(&job->folder, folder, err));
    TRY_TO(failed, status = memory_zeroed(&source, size + 1, 1, err));
    job->source = source;
    if (size > 0) {
        memcpy(job->source, text, size);
    }
    TRY_TO(failed, status = set_defaults(job, err));
    TRY_TO(failed, status = job_read_yaml(job, text, size, name, check.places, check.sections, err));
    TRY_TO(failed, status = check_job(&check));
    return STATUS_OK;
failed:
    job_destroy(job);
    return status;
}

static int read_text(struct buffer *text, const char *path, struct error *err) {
    static const char *const endings[] = {".yaml", ".yml", ".json", NULL};
    char hint[JOB_PATH_HINT];
    int status = file_read_stream(text, path, JOB_FILE_LIMIT, err);
    if (status != STATUS_OK && !file_exists(path)) {
        error_append(err, "%s", job_path_hint(hint, path, endings));
    }
    if (status == STATUS_OK) {
        status = first_bytes_check(text->data, text->size, text->size, path, FIRST_BYTES_YAML, err);
    }
    if (status == STATUS_DATA) { // an unreadable job file is a bad job file
        err->status = STATUS_JOB;
        status = STATUS_JOB;
    }
    return status;
}

int job_read(struct job *job, const char *path, struct error *err) {
    struct buffer text = {0};
    char folder[PATH_SIZE];
    *job = (struct job){0};
    int status;
    TRY_TO(done, status = read_text(&text, path, err));
    TRY_TO(done, status = path_folder(folder, sizeof folder, path, err));
    status = job_parse(job, text.data, text.size, path, folder, err);
done:
    buffer_destroy(&text);
    return status;
}

void job_destroy(struct job *job) {
    for (size_t i = 0; i < job_key_count; i++) {
        job_key_clear(job, &job_keys[i]);
    }
    free(job->source);
    free(job->folder);
    *job = (struct job){0};
}

int job_each_identity_key(const struct job *job,
                          int (*each)(void *context, const char *key, const char *value), void *context) {
    struct buffer value = {0};
    struct error err = {0};
    int status = STATUS_OK;
    for (size_t i = 0; i < job_key_count; i++) {
        const struct job_key *key = &job_keys[i];
        if (!key->identity) {
            continue;
        }
        char name[128];
        snprintf(name, sizeof name, "%s.%s", key->section, key->name);
        buffer_clear(&value);
        TRY_TO(done, status = job_key_print(job, key, &value, &err));
        if (key->unless_standard && strcmp(value.data, key->standard == NULL ? "" : key->standard) == 0) {
            continue;
        }
        TRY_TO(done, status = each(context, name, value.data));
    }
done:
    buffer_destroy(&value);
    return status;
}
