// SPDX-License-Identifier: MIT
// A checkpoint of a few tensors, made in a temporary file, to look for packed weights in and to read them
// from.
#ifndef STRATA_TESTS_PACKING_MADE_H
#define STRATA_TESTS_PACKING_MADE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/dtype.h"
#include "base/memory.h"
#include "kernels/weight_format.h"
#include "model/packing.h"

#define STEM "model.layers.0.self_attn.k_proj"

struct made {
    FILE *content;
    struct checkpoint_file file;
    struct checkpoint checkpoint;
};

static inline void must(int status, const struct error *err) {
    if (status != STATUS_OK) {
        fail_msg("%d: %s", status, err->message);
    }
}

static inline void made_open(struct made *made) {
    static char path[] = "made.safetensors";
    *made = (struct made){.content = tmpfile(), .file = {.path = path, .name = path}};
    assert_non_null(made->content);
    made->file.descriptor = fileno(made->content);
    made->checkpoint.files = &made->file;
    made->checkpoint.count = 1;
}

static inline void made_close(struct made *made) {
    fclose(made->content);
    tensors_destroy(&made->checkpoint.tensors);
}

// Rank 1 where `second` is 0, rank 0 where both are. `suffix` may be a whole name.
static inline void made_add(struct made *made, const char *suffix, const char *type, size_t size,
                            size_t second, const void *bytes) {
    static const struct tensor_type types[] = {{"I32", 32}, {"I64", 64}, {"I8", 8},    {"U8", 8},
                                               {"F32", 32}, {"F16", 16}, {"BF16", 16}, {"F8_E4M3", 8}};
    struct error err;
    char name[PACKING_STEM];
    must(tensors_reserve(&made->checkpoint.tensors, 1, &err), &err);
    struct tensor *tensor = &made->checkpoint.tensors.entries[made->checkpoint.tensors.count++];
    *tensor = (struct tensor){.rank = second > 0 ? 2 : size > 0 ? 1 : 0, .shape = {size, second}};
    snprintf(name, sizeof name, "%s%s", strchr(suffix, '/') == NULL ? STEM "." : "",
             strchr(suffix, '/') == NULL ? suffix : strchr(suffix, '/') + 1);
    must(memory_text(&tensor->name, name, &err), &err);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        tensor->type = strcmp(types[i].name, type) == 0 ? &types[i] : tensor->type;
    }
    assert_non_null(tensor->type);
    tensor->format = weight_format_find(type);
    size_t count = (size == 0 ? 1 : size) * (second == 0 ? 1 : second) * tensor->type->bits / 8;
    tensor->begin = (size_t)ftell(made->content);
    tensor->end = tensor->begin + count;
    assert_int_equal(fwrite(bytes, 1, count, made->content), count);
    assert_int_equal(fflush(made->content), 0);
}

static inline struct tensor *made_tensor(struct made *made, const char *suffix) {
    for (size_t i = 0; i < made->checkpoint.tensors.count; i++) {
        struct tensor *tensor = &made->checkpoint.tensors.entries[i];
        if (strcmp(tensor->name + sizeof STEM, suffix) == 0) {
            return tensor;
        }
    }
    fail_msg("no tensor %s", suffix);
    return NULL;
}

static inline void made_order(struct made *made) {
    const struct tensor *twice;
    struct error err;
    free(made->checkpoint.tensors.in_files);
    must(tensors_order(&made->checkpoint.tensors, &twice, &err), &err);
    assert_null(twice);
}

// From the text of a quantization_config; "" where there is none.
static inline struct quantization made_quantization(const char *json) {
    struct quantization out;
    struct values values;
    struct error err;
    char text[2048];
    snprintf(text, sizeof text, json[0] == 0 ? "{%s}" : "{\"quantization_config\": %s}", json);
    must(values_open_json(&values, text, strlen(text), "config.json", &err), &err);
    must(quantization_read(&out, &values, &err), &err);
    values_close(&values);
    return out;
}

// Looks for the weight; the error must have these words.
static inline void made_refused(struct made *made, const struct quantization *quantization, size_t rows,
                                size_t columns, const char *words) {
    struct weight_source source;
    struct error err = {0};
    bool found;
    made_order(made);
    int status = packing_find(&source, &made->checkpoint, quantization, STEM, rows, columns, &found, &err);
    if (status != STATUS_DATA || strstr(err.message, words) == NULL) {
        fail_msg("instead of '%s': %d, %s", words, status, status == STATUS_OK ? "found" : err.message);
    }
}

static inline void made_found(struct made *made, const struct quantization *quantization, size_t rows,
                              size_t columns, struct weight_source *out) {
    struct error err;
    bool found;
    made_order(made);
    must(packing_find(out, &made->checkpoint, quantization, STEM, rows, columns, &found, &err), &err);
    assert_true(found);
}

// How many of a source's tensors are read.
static inline size_t made_read_count(const struct weight_source *source) {
    size_t count = 0;
    for (size_t i = 0; i < source->component_count; i++) {
        count += source->components[i].is_read;
    }
    return count;
}

// Every tensor of the source into its part. The caller frees it.
static inline unsigned char *made_parts(const struct made *made, const struct weight_source *source,
                                        size_t rows, size_t columns, int expected) {
    struct weight_layout layout;
    struct error err;
    int worst = STATUS_OK;
    assert_true(weight_layout(&source->format, rows, columns, &layout));
    unsigned char *parts = calloc(1, layout.bytes);
    for (size_t i = 0; i < source->component_count; i++) {
        const struct weight_component *component = &source->components[i];
        size_t size = component->tensor->end - component->tensor->begin;
        unsigned char *bytes = malloc(size);
        assert_int_equal(pread(made->file.descriptor, bytes, size, (off_t)component->tensor->begin), size);
        if (component->is_read) {
            int status = arrange(parts + layout.parts[component->part].offset,
                                 layout.parts[component->part].bytes, &component->how, bytes, size, &err);
            worst = status != STATUS_OK ? status : worst;
        }
        free(bytes);
    }
    if (worst != expected) {
        fail_msg("%d: %s", worst, err.message);
    }
    return parts;
}

// The weight's numbers, against those expected, bit for bit.
static inline void made_check(const struct made *made, const struct weight_source *source, size_t rows,
                              size_t columns, const float *expected) {
    struct weight_view view;
    unsigned char *parts = made_parts(made, source, rows, columns, STATUS_OK);
    float *numbers = malloc(columns * sizeof *numbers);
    assert_true(weight_view_of(&source->format, rows, columns, parts, &view));
    for (size_t row = 0; row < rows; row++) {
        weight_expand(numbers, &view, row, 0, columns);
        for (size_t column = 0; column < columns; column++) {
            float wanted = expected[row * columns + column];
            if (f32_bits(numbers[column]) != f32_bits(wanted)) {
                fail_msg("[%zu, %zu] is %.9g, not %.9g", row, column, (double)numbers[column],
                         (double)wanted);
            }
        }
    }
    free(numbers);
    free(parts);
}

// ---- numbers ----

static inline uint32_t made_random(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

// Scales: a positive number, in the type `name` at `out` (element `i`), rounded to it. Returns what it is.
static inline float made_scale(void *out, size_t i, const char *name, uint32_t *seed) {
    float value = (float)(made_random(seed) % 100000 + 1) * 0x1p-18f;
    if (strcmp(name, "F32") == 0) {
        memcpy((float *)out + i, &value, sizeof value);
        return value;
    }
    uint16_t half = strcmp(name, "F16") == 0 ? f32_to_f16(value) : f32_to_bf16(value);
    memcpy((uint16_t *)out + i, &half, sizeof half);
    return strcmp(name, "F16") == 0 ? f16_to_f32(half) : bf16_to_f32(half);
}

#endif
