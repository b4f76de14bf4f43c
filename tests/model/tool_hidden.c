// SPDX-License-Identifier: MIT
// Writes every hidden state of every token: tool_hidden FOLDER DTYPE THREADS TEXTS.i32 OUT.f32 [TOKENS]
// TOKENS: of a batch, so that one text which is longer runs in slices. TEXTS holds int32: the number of
// texts, their lengths, all ids. OUT gets float32 [layers + 1, tokens, hidden],
// without a last one that has another width.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "kernels/device.h"
#include "model/layer_names.h"
#include "model/model.h"

struct texts {
    struct buffer file;
    size_t count;
    size_t tokens;
    size_t longest;
    int32_t *starts; // [count + 1]
    const int32_t *ids;
};

static int read_texts(struct texts *out, const char *path, struct error *err) {
    int status = file_read(&out->file, path, (size_t)1 << 30, err);
    if (status != STATUS_OK) {
        return status;
    }
    const int32_t *numbers = (const int32_t *)(const void *)out->file.data;
    size_t total = out->file.size / sizeof numbers[0];
    if (total == 0 || numbers[0] <= 0 || (size_t)numbers[0] >= total) {
        return error_set(err, STATUS_DATA, "%s holds no texts", path);
    }
    out->count = (size_t)numbers[0];
    out->ids = numbers + 1 + out->count;
    out->starts = calloc(out->count + 1, sizeof out->starts[0]);
    for (size_t i = 0; i < out->count; i++) {
        size_t length = (size_t)numbers[1 + i];
        out->longest = length > out->longest ? length : out->longest;
        out->starts[i + 1] = out->starts[i] + numbers[1 + i];
    }
    out->tokens = (size_t)out->starts[out->count];
    return out->tokens == total - 1 - out->count ? STATUS_OK : error_set(err, STATUS_DATA, "%s is cut", path);
}

static int load(struct model *model, const struct model_limits *limits, struct error *err) {
    struct model_plan plan;
    struct model_load_options options = {.timeout_seconds = 600};
    int status = model_plan(model, limits, &plan, err);
    if (status == STATUS_OK) {
        status = model_reserve(model, &plan, err);
    }
    if (status == STATUS_OK) {
        status = model_load(model, limits, &options, err);
    }
    status = status == STATUS_OK ? model_check(model, err) : status;
    return status == STATUS_OK ? model_tune(model, NULL, NULL, err) : status;
}

static int write_states(struct model *model, const struct texts *texts, size_t count, const char *path,
                        struct error *err) {
    struct model_output out;
    struct device_span *spans = calloc(texts->tokens, sizeof spans[0]);
    for (size_t t = 0; t < texts->tokens; t++) {
        spans[t] = (struct device_span){(int32_t)t, (int32_t)t + 1};
    }
    struct model_batch batch = {.ids = texts->ids,
                                .starts = texts->starts,
                                .spans = spans,
                                .tokens = texts->tokens,
                                .texts = texts->count,
                                .rows = texts->tokens};
    int status = model_forward(model, &batch, err);
    if (status == STATUS_OK) {
        status = model_wait(model, 0, NULL, err);
    }
    free(spans);
    if (status != STATUS_OK) {
        return status;
    }
    model_outputs(model, 0, &out);
    size_t numbers = texts->tokens * model_config_of(model)->hidden;
    FILE *file = fopen(path, "wb");
    bool written = file != NULL;
    for (size_t layer = 0; layer < count && written; layer++) {
        written = fwrite(out.rows[layer], sizeof(float), numbers, file) == numbers;
    }
    written = file != NULL && fclose(file) == 0 && written;
    return written ? STATUS_OK : error_set_errno(err, STATUS_WRITE, "cannot write %s", path);
}

static void print_modules(const struct model_config *config, const size_t *layers, size_t count) {
    for (size_t i = 0; i < count; i++) {
        char name[MODEL_LAYER_NAME];
        model_layer_module(config, layers[i], name);
        printf("%s\n", name);
    }
}

static int run(char **arguments, struct error *err) {
    struct device_options options = {.threads = atoi(arguments[3])};
    struct device *device = NULL;
    struct model *model = NULL;
    struct texts texts = {0};
    size_t *wanted = NULL;
    if (!dtype_parse(arguments[2], &options.dtype)) {
        return error_set(err, STATUS_USAGE, "'%s' is no dtype", arguments[2]);
    }
    int status = read_texts(&texts, arguments[4], err);
    if (status == STATUS_OK) {
        const char *name = getenv("STRATA_TEST_DEVICE"); // a GPU instead of the CPU
        status = device_open(&device, name != NULL ? name : "cpu", &options, err);
    }
    if (status == STATUS_OK) {
        status = model_open(&model, arguments[1], err);
    }
    const char *adapter = getenv("STRATA_TEST_ADAPTER"); // a folder
    if (status == STATUS_OK && adapter != NULL) {
        status = model_set_adapter(model, adapter, err);
    }
    if (status == STATUS_OK) {
        status = model_add_device(model, device, "the device", err);
        device = status == STATUS_OK ? NULL : device; // the model closes it
    }
    if (status != STATUS_OK) {
        goto done;
    }
    const struct model_config *config = model_config_of(model);
    size_t layers = config_last_state(config) + 1;
    wanted = calloc(layers + 1, sizeof wanted[0]);
    for (size_t i = 0; i < layers; i++) {
        wanted[i] = i;
    }
    if (getenv("STRATA_TEST_PRE_NORM") != NULL) {
        wanted[layers++] = config_pre_norm(config);
        print_modules(config, wanted, layers);
    }
    struct model_limits limits = {.layers = wanted,
                                  .layer_count = layers,
                                  .tokens = texts.tokens,
                                  .texts = texts.count,
                                  .rows = texts.tokens,
                                  .longest = texts.longest,
                                  .stored = DTYPE_F32,
                                  .slots = 1};
    if (arguments[6] != NULL) {
        limits.tokens = (size_t)atoi(arguments[6]);
        status = model_limits_slice(&limits) ? STATUS_OK : error_set(err, STATUS_USAGE, "too few tokens");
    }
    status = status == STATUS_OK ? load(model, &limits, err) : status;
    if (status == STATUS_OK) {
        status = write_states(model, &texts, layers, arguments[5], err);
    }
done:
    model_close(model);
    device_close(device);
    free(wanted);
    free(texts.starts);
    buffer_destroy(&texts.file);
    return status;
}

int main(int count, char **arguments) {
    struct error err = {0};
    if (count != 6 && count != 7) {
        fprintf(stderr, "usage: tool_hidden FOLDER DTYPE THREADS TEXTS.i32 OUT.f32 [TOKENS]\n");
        return 64;
    }
    int status = run(arguments, &err);
    if (status != STATUS_OK) {
        fprintf(stderr, "tool_hidden: %s\n", err.message);
    }
    return error_exit_code(status);
}
