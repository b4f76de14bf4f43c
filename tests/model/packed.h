// SPDX-License-Identifier: MIT
// Packed weights of tests: files of a few tensors, written here or committed (tools/make_packed_goldens.py),
// opened as checkpoints, and the numbers that a weight_source makes of them.
#ifndef STRATA_TESTS_MODEL_PACKED_H
#define STRATA_TESTS_MODEL_PACKED_H

#include "golden.h"
#include "model/packing.h"
#include "model/safetensors.h"

struct packed { // an open file
    struct checkpoint_file file;
    struct checkpoint checkpoint;
    char path[GOLDEN_PATH + 64];
    char folder[GOLDEN_PATH]; // of a file that a test wrote, or ""
};

struct packed_tensor {
    const char *name;
    const char *type; // NULL: there is no such tensor
    size_t rank;
    size_t shape[3];
    const void *bytes; // NULL: zeros
};

static inline void packed_must(int status, const struct error *err) {
    golden_must(status == STATUS_OK, err->message);
}

static inline void packed_open_path(struct packed *out) {
    struct error err = {0};
    const struct tensor *twice;
    out->file = (struct checkpoint_file){.path = out->path, .name = "packed.safetensors"};
    packed_must(file_open(&out->file.descriptor, &out->file.size, out->path, &err), &err);
    out->checkpoint = (struct checkpoint){.files = &out->file, .count = 1};
    packed_must(
        safetensors_read(&out->checkpoint.tensors, 0, out->file.descriptor, out->file.size, out->path, &err),
        &err);
    packed_must(tensors_order(&out->checkpoint.tensors, &twice, &err), &err);
    golden_must(twice == NULL, "a name that two tensors have");
}

// A committed file: tests/model/goldens/packed-NAME.safetensors.
static inline void packed_open_golden(struct packed *out, const char *name) {
    snprintf(out->path, sizeof out->path, "%s/tests/model/goldens/packed-%s.safetensors",
             getenv("STRATA_SOURCE") == NULL ? "." : getenv("STRATA_SOURCE"), name);
    out->folder[0] = 0;
    packed_open_path(out);
}

static inline size_t packed_size(const struct packed_tensor *tensor) {
    size_t size = strcmp(tensor->type, "F32") == 0 || strcmp(tensor->type, "I32") == 0    ? 4
                  : strcmp(tensor->type, "F16") == 0 || strcmp(tensor->type, "BF16") == 0 ? 2
                                                                                          : 1;
    for (size_t i = 0; i < tensor->rank; i++) {
        size *= tensor->shape[i];
    }
    return size;
}

static inline void packed_make(struct packed *out, const struct packed_tensor *tensors, size_t count) {
    struct buffer data = {0};
    struct buffer file = {0};
    json_t *header = json_object();
    for (size_t i = 0; i < count; i++) {
        if (tensors[i].type == NULL) {
            continue;
        }
        size_t size = packed_size(&tensors[i]);
        void *zeros = calloc(size + 1, 1);
        size_t begin = data.size;
        buffer_append(&data, tensors[i].bytes == NULL ? zeros : tensors[i].bytes, size, NULL);
        free(zeros);
        json_t *shape = json_array();
        for (size_t d = 0; d < tensors[i].rank; d++) {
            json_array_append_new(shape, json_integer((json_int_t)tensors[i].shape[d]));
        }
        json_object_set_new(header, tensors[i].name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", tensors[i].type, "shape", shape,
                                      "data_offsets", (json_int_t)begin, (json_int_t)data.size));
    }
    char *text = json_dumps(header, JSON_COMPACT);
    uint64_t length = strlen(text);
    buffer_append(&file, &length, sizeof length, NULL);
    buffer_append(&file, text, length, NULL);
    buffer_append(&file, data.data, data.size, NULL);
    golden_folder(out->folder);
    golden_write(out->folder, "packed.safetensors", file.data, file.size);
    snprintf(out->path, sizeof out->path, "%s/packed.safetensors", out->folder);
    packed_open_path(out);
    free(text);
    json_decref(header);
    buffer_destroy(&data);
    buffer_destroy(&file);
}

static inline void packed_close(struct packed *packed) {
    close(packed->file.descriptor);
    tensors_destroy(&packed->checkpoint.tensors);
    if (packed->folder[0] != 0) {
        golden_remove(packed->folder);
    }
}

// The bytes of a tensor of the file; the caller frees them.
static inline unsigned char *packed_bytes(const struct packed *packed, const struct tensor *tensor) {
    struct error err = {0};
    unsigned char *bytes = malloc(tensor->end - tensor->begin + 1);
    packed_must(file_read_at(packed->file.descriptor, bytes, tensor->end - tensor->begin, tensor->begin,
                             packed->path, &err),
                &err);
    return bytes;
}

// The parts as a device has them; the caller frees them.
static inline unsigned char *packed_parts(const struct packed *packed, const struct weight_source *source,
                                          const struct weight_layout *layout) {
    struct error err = {0};
    unsigned char *parts = calloc(layout->bytes, 1);
    for (size_t i = 0; i < source->component_count; i++) {
        const struct weight_component *component = &source->components[i];
        if (component->is_read) {
            unsigned char *bytes = packed_bytes(packed, component->tensor);
            packed_must(arrange(parts + layout->parts[component->part].offset,
                                layout->parts[component->part].bytes, &component->how, bytes,
                                component->tensor->end - component->tensor->begin, &err),
                        &err);
            free(bytes);
        }
    }
    return parts;
}

// The numbers of the weight must be those of the tensor "expected.STEM", bit by bit.
static inline void packed_check_numbers(const struct packed *packed, const struct weight_source *source,
                                        const char *stem, size_t rows, size_t columns) {
    char name[PACKING_STEM];
    struct weight_layout layout;
    struct weight_view view;
    snprintf(name, sizeof name, "expected.%s", stem);
    const struct tensor *tensor = tensors_find(&packed->checkpoint.tensors, name);
    golden_must(tensor != NULL && tensor->end - tensor->begin == rows * columns * sizeof(float), name);
    golden_must(weight_layout(&source->format, rows, columns, &layout), stem);
    unsigned char *parts = packed_parts(packed, source, &layout);
    unsigned char *expected = packed_bytes(packed, tensor);
    float *numbers = malloc(columns * sizeof *numbers);
    golden_must(weight_view_of(&source->format, rows, columns, parts, &view), stem);
    for (size_t row = 0; row < rows; row++) {
        weight_expand(numbers, &view, row, 0, columns);
        for (size_t i = 0; i < columns; i++) {
            float wanted;
            memcpy(&wanted, expected + (row * columns + i) * sizeof wanted, sizeof wanted);
            if (memcmp(&numbers[i], &wanted, sizeof wanted) != 0) {
                fprintf(stderr, "%s [%zu, %zu] is %a, not %a\n", stem, row, i, (double)numbers[i],
                        (double)wanted);
                abort();
            }
        }
    }
    free(numbers);
    free(expected);
    free(parts);
}

// The bytes of component `index` must be refused where they are read, naming what is no number.
static inline void packed_check_refused(const struct packed *packed, const struct weight_source *source,
                                        size_t index) {
    struct error err = {0};
    const struct tensor *tensor = source->components[index].tensor;
    unsigned char *bytes = packed_bytes(packed, tensor);
    int status = arrange_check(&source->components[index].how, bytes, tensor->end - tensor->begin, &err);
    golden_must(status == STATUS_DATA, tensor->name);
    free(bytes);
}

#endif
