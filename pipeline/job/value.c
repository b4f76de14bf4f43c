// SPDX-License-Identifier: MIT
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "job/habits.h"
#include "job/keys.h"

static const char *const pooling_names[] = {"step_mean", "mean", "last", "tokens", "last_of_step"};

enum { LAYER_NAME = 128 }; // bytes of a layer's name, with a final 0

static const char *const weights_names[] = {"resident", "host", "disk"};

const char *job_weights_name(enum job_weights weights) {
    return weights_names[weights];
}

const char *job_split_name(enum job_split split) {
    return split == JOB_SPLIT_LAYERS ? "layers" : "batches";
}

static const char *const keep_names[] = {"auto", "bfloat16", "float16", "float32", "q8_0", "q4_0"};

const char *job_keep_name(enum job_keep keep) {
    return keep_names[keep];
}

uint64_t job_device_limit(const struct job *job, const char *device) {
    const char *name = strcmp(device, "auto") == 0 ? "cuda:0" : device;
    for (size_t i = 0; i < job->device_memory_count; i++) {
        if (strcmp(job->device_memory[i].device, name) == 0) {
            return (uint64_t)(job->device_memory[i].gb * 1e9);
        }
    }
    return 0;
}

const char *pooling_name(enum pooling pooling) {
    return pooling_names[pooling];
}

static void *field(struct job *job, size_t offset) {
    return (char *)job + offset;
}

static const void *field_read(const struct job *job, size_t offset) {
    return (const char *)job + offset;
}

void job_value_destroy(struct job_value *value) {
    for (size_t i = 0; i < value->count; i++) {
        free(value->items[i].name);
        free(value->items[i].text);
    }
    free(value->items);
    *value = (struct job_value){0};
}

void job_key_clear(struct job *job, const struct job_key *key) {
    if (key->kind == KEY_TEXT || key->kind == KEY_PATH) {
        char **text = field(job, key->offset);
        free(*text);
        *text = NULL;
    } else if (key->kind == KEY_MEMORY) {
        job->memory_gb = 0;
        job->device_memory_count = 0;
    } else if (key->kind == KEY_TEXTS || key->kind == KEY_DEVICES || key->kind == KEY_LAYERS) {
        char ***texts = field(job, key->offset);
        size_t *count = field(job, key->count_offset);
        for (size_t i = 0; *texts != NULL && i < *count; i++) {
            free((*texts)[i]);
        }
        free(*texts);
        *texts = NULL;
        *count = 0;
    }
}

// ---- strict scalars ----

// Nothing but what JSON would take, so that no reader of YAML 1.1 or 1.2 sees another value.

static size_t digits(const char *text) {
    return strspn(text, "0123456789");
}

static bool whole_number(const char *text, int64_t *out) {
    const char *start = text + (text[0] == '-');
    size_t count = digits(start);
    if (count == 0 || count != strlen(start) || (start[0] == '0' && count > 1)) {
        return false;
    }
    errno = 0;
    *out = strtoll(text, NULL, 10);
    return errno == 0;
}

static bool decimal_number(const char *text, double *out) {
    const char *at = text + (text[0] == '-');
    size_t count = digits(at);
    if (count == 0 || (at[0] == '0' && count > 1)) {
        return false;
    }
    at += count;
    if (*at == '.') {
        count = digits(at + 1);
        at += count + 1;
    }
    if (count > 0 && (*at == 'e' || *at == 'E')) {
        at += 1 + (at[1] == '+' || at[1] == '-');
        count = digits(at);
        at += count;
    }
    if (count == 0 || *at != 0) {
        return false;
    }
    errno = 0;
    *out = strtod(text, NULL);
    return errno == 0;
}

static int out_of_bounds(const struct job_key *key, const char *text, struct error *err) {
    return error_set(err, STATUS_JOB, "'%s' is out of bounds: %.15g to %.15g", text, key->minimum,
                     key->maximum);
}

static int assign_integer(int64_t *out, const struct job_key *key, const struct job_item *item,
                          struct error *err) {
    int64_t number;
    if (!item->plain || !whole_number(item->text, &number)) {
        return error_set(err, STATUS_JOB, "must be a whole number, not '%s'", item->text);
    }
    if (number < (int64_t)key->minimum || number > (int64_t)key->maximum) {
        return out_of_bounds(key, item->text, err);
    }
    *out = number;
    return STATUS_OK;
}

static int assign_number(double *out, const struct job_key *key, const struct job_item *item,
                         struct error *err) {
    double number;
    if (!item->plain || !decimal_number(item->text, &number)) {
        return error_set(err, STATUS_JOB, "wants a number, not '%s'", item->text);
    }
    if (!(number >= key->minimum && number <= key->maximum)) {
        return out_of_bounds(key, item->text, err);
    }
    *out = number;
    return STATUS_OK;
}

static int assign_boolean(bool *out, const struct job_item *item, struct error *err) {
    bool yes = strcmp(item->text, "true") == 0;
    if (!item->plain || (!yes && strcmp(item->text, "false") != 0)) {
        return error_set(err, STATUS_JOB, "must be true or false, not '%s'", item->text);
    }
    *out = yes;
    return STATUS_OK;
}

// Place of `text` among "a|b|c", or -1; names[] gets the choices for the nearest one.
static int choice(const char *choices, const char *text, char names[][32], const char **list, size_t *count) {
    int found = -1;
    *count = 0;
    for (const char *at = choices; *at != 0 && *count < 8; *count += 1) {
        size_t length = strcspn(at, "|");
        memcpy(names[*count], at, length);
        names[*count][length] = 0;
        list[*count] = names[*count];
        if (strcmp(names[*count], text) == 0) {
            found = (int)*count;
        }
        at += length + (at[length] == '|');
    }
    return found;
}

static int check_choice(const struct job_key *key, const char *text, int *index, struct error *err) {
    char names[8][32];
    const char *list[8] = {0};
    size_t count;
    *index = choice(key->choices, text, names, list, &count);
    if (*index >= 0) {
        return STATUS_OK;
    }
    const char *nearest = job_nearest(text, list, count);
    const char *habit = job_habit_value(text);
    for (size_t i = 0; habit != NULL && i < count; i++) {
        nearest = strcmp(list[i], habit) == 0 ? habit : nearest;
    }
    if (nearest != NULL) {
        return error_set(err, STATUS_JOB, "must be one of %s, not '%s' (did you mean '%s'?)", key->choices,
                         text, nearest);
    }
    return error_set(err, STATUS_JOB, "must be one of %s, not '%s'", key->choices, text);
}

static int refuse_device(const char *text, struct error *err) {
    static const char *const gpu[] = {"cuda", "gpu", "nvidia", "GPU", "CUDA"};
    static const char *const others[] = {"mps", "metal", "rocm", "hip", "xpu", "npu", "tpu", "vulkan"};
    const char *hint = "";
    for (size_t i = 0; i < sizeof gpu / sizeof gpu[0]; i++) {
        hint = strcmp(text, gpu[i]) == 0 ? " (did you mean 'cuda:0'?)" : hint;
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        hint = strcmp(text, others[i]) == 0 ? " (strata runs on CPUs and on NVIDIA GPUs)" : hint;
    }
    return error_set(err, STATUS_JOB, "must be auto, cpu, cuda:N, cuda:all or a list of cuda:N, not '%s'%s",
                     text, hint);
}

static bool is_gpu(const char *text) {
    int64_t number;
    return strncmp(text, "cuda:", 5) == 0 && whole_number(text + 5, &number) && number >= 0 && number < 1024;
}

static int check_text(const struct job_key *key, const struct job_item *item, struct error *err) {
    if (strlen(item->text) != item->size) {
        return error_set(err, STATUS_JOB, "has a NUL byte");
    }
    if (item->size < (size_t)key->minimum) {
        return error_set(err, STATUS_JOB, "is empty");
    }
    return STATUS_OK;
}

static int assign_text(struct job *job, const struct job_key *key, const struct job_item *item,
                       struct error *err) {
    char path[PATH_SIZE];
    const char *text = item->text;
    TRY(check_text(key, item, err));
    if (key->kind == KEY_PATH) {
        const char *folder =
            strcmp(job->folder, ".") == 0 ? "" : job->folder; // no "./" before every path shown
        if (path_join(path, sizeof path, folder, item->text, err) != STATUS_OK) {
            err->status = STATUS_JOB;
            return STATUS_JOB;
        }
        text = path;
    }
    return memory_text(field(job, key->offset), text, err);
}

// ---- lists ----

// Copies the items, each of which is there once.
static int copy_texts(struct job *job, const struct job_key *key, const struct job_value *value, size_t *item,
                      struct error *err) {
    char ***texts = field(job, key->offset);
    size_t *count = field(job, key->count_offset);
    void *block;
    TRY(memory_zeroed(&block, value->count, sizeof **texts, err));
    *texts = block;
    for (size_t i = 0; i < value->count; i++) {
        *item = i;
        TRY(key->kind == KEY_LAYERS ? STATUS_OK : check_text(key, &value->items[i], err));
        for (size_t k = 0; k < i; k++) {
            if (strcmp((*texts)[k], value->items[i].text) == 0) {
                return error_set(err, STATUS_JOB, "has '%s' twice", value->items[i].text);
            }
        }
        TRY(memory_text(&(*texts)[i], value->items[i].text, err));
        *count = i + 1;
    }
    return STATUS_OK;
}

// A whole number, or a name as modules and hooks have it: letters, digits, '_' and '.', a letter first.
static int check_layer(const struct job_key *key, const struct job_item *item, struct error *err) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    const char *text = item->text;
    int64_t number;
    size_t size = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789.");
    if (item->plain && whole_number(text, &number)) {
        return assign_integer(&number, key, item, err);
    }
    if (strcmp(text, "all") == 0) {
        return error_set(err, STATUS_JOB, "is a list of layers: 'all' stands alone");
    }
    return strspn(text, letters) > 0 && size == item->size && size < LAYER_NAME
               ? STATUS_OK
               : error_set(err, STATUS_JOB, "must be a whole number, pre_norm or a module's name, not '%s'",
                           text);
}

static int assign_layers(struct job *job, const struct job_key *key, const struct job_value *value,
                         size_t *item, struct error *err) {
    if (!value->is_list && strcmp(value->items[0].text, "all") == 0) {
        return STATUS_OK;
    }
    if (value->count == 0) {
        return error_set(err, STATUS_JOB, "is an empty list");
    }
    for (*item = 0; *item < value->count; *item += 1) {
        TRY(check_layer(key, &value->items[*item], err));
    }
    return copy_texts(job, key, value, item, err);
}

static int assign_texts(struct job *job, const struct job_key *key, const struct job_value *value,
                        size_t *item, struct error *err) {
    return value->is_list ? copy_texts(job, key, value, item, err)
                          : error_set(err, STATUS_JOB, "wants a list: [%s]", value->items[0].text);
}

// ---- devices ----

static int assign_devices(struct job *job, const struct job_key *key, const struct job_value *value,
                          size_t *item, struct error *err) {
    static const char *const alone[] = {"auto", "cpu", "cuda:all"};
    if (value->count == 0 || value->count > JOB_DEVICES) {
        return error_set(err, STATUS_JOB, "wants 1 to %d devices, not %zu", JOB_DEVICES, value->count);
    }
    for (*item = 0; *item < value->count; *item += 1) {
        const char *text = value->items[*item].text;
        bool stands_alone = false;
        for (size_t k = 0; k < sizeof alone / sizeof alone[0]; k++) {
            stands_alone |= strcmp(text, alone[k]) == 0;
        }
        if (stands_alone && value->is_list) {
            return error_set(err, STATUS_JOB, "is a list of cuda:N: '%s' stands alone", text);
        }
        if (!stands_alone && !is_gpu(text)) {
            return refuse_device(text, err);
        }
    }
    return copy_texts(job, key, value, item, err);
}

int job_set_device(struct job *job, const char *name, struct error *err) {
    char *copy;
    if (strcmp(name, "cpu") != 0 && !is_gpu(name)) {
        return error_set(err, STATUS_USAGE, "--device must be cpu or cuda:N, not '%s'", name);
    }
    TRY(memory_text(&copy, name, err));
    for (size_t i = 0; i < job->device_count; i++) {
        free(job->devices[i]);
    }
    job->devices[0] = copy;
    job->device_count = 1;
    return STATUS_OK;
}

static int assign_device_memory(struct job *job, const struct job_key *key, const struct job_item *item,
                                struct error *err) {
    struct job_device_memory *memory = &job->device_memory[job->device_memory_count];
    double gb;
    if (!is_gpu(item->name)) {
        return error_set(err, STATUS_JOB, "names host and cuda:N, not '%s'", item->name);
    }
    if (job->device_memory_count == JOB_DEVICES) {
        return error_set(err, STATUS_JOB, "names more than %d devices", JOB_DEVICES);
    }
    TRY(assign_number(&gb, key, item, err));
    snprintf(memory->device, sizeof memory->device, "%s", item->name);
    memory->gb = gb;
    job->device_memory_count++;
    return STATUS_OK;
}

static int assign_memory(struct job *job, const struct job_key *key, const struct job_value *value,
                         size_t *item, struct error *err) {
    if (!value->is_map) {
        return assign_number(&job->memory_gb, key, &value->items[0], err);
    }
    if (value->count == 0) {
        return error_set(err, STATUS_JOB, "names no memory");
    }
    for (*item = 0; *item < value->count; *item += 1) {
        const struct job_item *at = &value->items[*item];
        for (size_t k = 0; k < *item; k++) {
            if (strcmp(value->items[k].name, at->name) == 0) {
                return error_set(err, STATUS_JOB, "has '%s' twice", at->name);
            }
        }
        TRY(strcmp(at->name, "host") == 0 ? assign_number(&job->memory_gb, key, at, err)
                                          : assign_device_memory(job, key, at, err));
    }
    return STATUS_OK;
}

static bool says_nothing(const struct job_item *item) {
    const char *text = item->text;
    return item->plain && (text[0] == 0 || strcmp(text, "~") == 0 || strcasecmp(text, "null") == 0);
}

int job_key_assign(struct job *job, const struct job_key *key, const struct job_value *value, size_t *item,
                   struct error *err) {
    *item = 0;
    for (size_t i = 0; i < value->count; i++) {
        if (says_nothing(&value->items[i])) {
            *item = i;
            return error_set(err, STATUS_JOB, "has no value");
        }
    }
    job_key_clear(job, key);
    if (key->kind == KEY_LAYERS) {
        return assign_layers(job, key, value, item, err);
    }
    if (key->kind == KEY_TEXTS) {
        return assign_texts(job, key, value, item, err);
    }
    if (key->kind == KEY_DEVICES) {
        return assign_devices(job, key, value, item, err);
    }
    if (key->kind == KEY_MEMORY && !value->is_list) {
        return assign_memory(job, key, value, item, err);
    }
    if (value->is_list) {
        *item = value->count;
        return error_set(err, STATUS_JOB, "must be one value, not a list");
    }
    int index = 0;
    switch (key->kind) {
    case KEY_INTEGER:
        return assign_integer(field(job, key->offset), key, value->items, err);
    case KEY_NUMBER:
        return assign_number(field(job, key->offset), key, value->items, err);
    case KEY_BOOLEAN:
        return assign_boolean(field(job, key->offset), value->items, err);
    case KEY_DTYPE:
        TRY(check_choice(key, value->items[0].text, &index, err));
        dtype_parse(value->items[0].text, field(job, key->offset));
        return STATUS_OK;
    case KEY_POOLING:
        TRY(check_choice(key, value->items[0].text, &index, err));
        *(enum pooling *)field(job, key->offset) = (enum pooling)index;
        return STATUS_OK;
    case KEY_CHOICE:
        return check_choice(key, value->items[0].text, field(job, key->offset), err);
    default:
        return assign_text(job, key, value->items, err);
    }
}

// ---- values as text ----

static int print_choice(const char *choices, int index, struct buffer *out, struct error *err) {
    for (; index > 0; index--) {
        choices += strcspn(choices, "|") + 1;
    }
    return buffer_printf(out, err, "%.*s", (int)strcspn(choices, "|"), choices);
}

static int print_texts(char *const *texts, size_t count, struct buffer *out, struct error *err) {
    if (texts == NULL) {
        return buffer_printf(out, err, "%s", "");
    }
    TRY(buffer_printf(out, err, "["));
    for (size_t i = 0; i < count; i++) {
        TRY(buffer_printf(out, err, "%s%s", i == 0 ? "" : ", ", texts[i]));
    }
    return buffer_printf(out, err, "]");
}

int job_key_print(const struct job *job, const struct job_key *key, struct buffer *out, struct error *err) {
    const void *at = field_read(job, key->offset);
    switch (key->kind) {
    case KEY_INTEGER:
        return buffer_printf(out, err, "%lld", (long long)*(const int64_t *)at);
    case KEY_MEMORY: // no matter of identity: the host's is what tells the most
    case KEY_NUMBER:
        return buffer_printf(out, err, "%.15g", *(const double *)at);
    case KEY_BOOLEAN:
        return buffer_printf(out, err, "%s", *(const bool *)at ? "true" : "false");
    case KEY_DTYPE:
        return buffer_printf(out, err, "%s", dtype_name(*(const enum dtype *)at));
    case KEY_POOLING:
        return buffer_printf(out, err, "%s", pooling_name(*(const enum pooling *)at));
    case KEY_CHOICE:
        return print_choice(key->choices, *(const int *)at, out, err);
    case KEY_LAYERS:
        if (*(char **const *)at == NULL) {
            return buffer_printf(out, err, "all");
        }
        return print_texts(*(char **const *)at, *(const size_t *)field_read(job, key->count_offset), out,
                           err);
    case KEY_TEXTS:
    case KEY_DEVICES:
        return print_texts(*(char **const *)at, *(const size_t *)field_read(job, key->count_offset), out,
                           err);
    default: {
        const char *text = *(char *const *)at;
        return buffer_printf(out, err, "%s", text == NULL ? "" : text);
    }
    }
}
