// SPDX-License-Identifier: MIT
// Fuzz target: a quantization_config and the tensors of one weight. What is accepted must give the weight's
// numbers without a read or write outside them. An input is text, then the tensors' bytes (over and over):
//   ROWS COLUMNS
//   {"quant_method": ...}
//   SUFFIX TYPE SIZE SIZE     one a line; a size of 0: a dimension less
//   (an empty line)
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/size.h"
#include "model/packing.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
size_t fuzz_accepted; // inputs that were not refused: see fuzz_replay.c

enum { LARGEST_SIDE = 1024, LINE = 1024 };

static void demand(bool holds) {
    if (!holds) {
        abort();
    }
}

struct input {
    const unsigned char *at;
    size_t size;
};

// The next line, without its end; false at the end of the lines.
static bool next_line(struct input *input, char line[LINE]) {
    const unsigned char *end = memchr(input->at, '\n', input->size);
    size_t length = end == NULL ? input->size : (size_t)(end - input->at);
    if (end == NULL || length >= LINE) {
        return false;
    }
    memcpy(line, input->at, length);
    line[length] = 0;
    input->at += length + 1;
    input->size -= length + 1;
    return length > 0;
}

static void add_tensor(struct checkpoint *checkpoint, const char *line) {
    static const struct tensor_type types[] = {{"I32", 32}, {"I64", 64}, {"I8", 8},    {"U8", 8},
                                               {"F32", 32}, {"F16", 16}, {"BF16", 16}, {"F8_E4M3", 8}};
    char suffix[64];
    char type[16];
    char name[80];
    unsigned sizes[2];
    struct error err;
    if (sscanf(line, "%63s %15s %4u %4u", suffix, type, &sizes[0], &sizes[1]) != 4 ||
        sizes[0] > LARGEST_SIDE || sizes[1] > LARGEST_SIDE) {
        return;
    }
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(type, types[i].name) != 0) {
            continue;
        }
        demand(tensors_reserve(&checkpoint->tensors, 1, &err) == STATUS_OK);
        struct tensor *tensor = &checkpoint->tensors.entries[checkpoint->tensors.count++];
        *tensor = (struct tensor){.type = &types[i], .format = weight_format_find(type)};
        snprintf(name, sizeof name, "a.%s", suffix);
        demand(memory_text(&tensor->name, name, &err) == STATUS_OK);
        size_t bytes = types[i].bits / 8;
        for (size_t j = 0; j < 2 && sizes[j] > 0; j++) {
            tensor->shape[tensor->rank++] = sizes[j];
            bytes *= sizes[j];
        }
        tensor->end = bytes;
    }
}

// Tensors lie behind each other in a file of the bytes that are left.
static void write_tensors(struct checkpoint *checkpoint, const struct input *input) {
    size_t all = 0;
    for (size_t i = 0; i < checkpoint->tensors.count; i++) {
        struct tensor *tensor = &checkpoint->tensors.entries[i];
        tensor->begin = all;
        tensor->end += all;
        all = tensor->end;
    }
    unsigned char *bytes = calloc(1, size_max(all, 1));
    demand(bytes != NULL);
    for (size_t i = 0; i < all && input->size > 0; i++) {
        bytes[i] = input->at[i % input->size];
    }
    demand(write(checkpoint->files[0].descriptor, bytes, all) == (ssize_t)all);
    free(bytes);
}

// Every part from its tensors, then every number.
static void read_numbers(const struct checkpoint *checkpoint, const struct weight_source *source, size_t rows,
                         size_t columns) {
    struct weight_layout layout;
    struct weight_view view;
    struct error err = {0};
    int status = STATUS_OK;
    demand(weight_layout(&source->format, rows, columns, &layout));
    unsigned char *parts = calloc(1, layout.bytes);
    float *numbers = malloc(columns * sizeof *numbers);
    demand(parts != NULL && numbers != NULL);
    for (size_t i = 0; i < source->component_count && status == STATUS_OK; i++) {
        const struct weight_component *component = &source->components[i];
        size_t size = component->tensor->end - component->tensor->begin;
        unsigned char *bytes = malloc(size_max(size, 1));
        demand(bytes != NULL);
        demand(pread(checkpoint->files[0].descriptor, bytes, size, (off_t)component->tensor->begin) ==
               (ssize_t)size);
        if (component->is_read) {
            status = arrange(parts + layout.parts[component->part].offset,
                             layout.parts[component->part].bytes, &component->how, bytes, size, &err);
            demand(status == STATUS_OK || status == STATUS_DATA);
        }
        free(bytes);
    }
    demand(weight_view_of(&source->format, rows, columns, parts, &view));
    for (size_t row = 0; row < rows && status == STATUS_OK; row++) {
        weight_expand(numbers, &view, row, 0, columns);
    }
    free(numbers);
    free(parts);
}

static void look_for(struct checkpoint *checkpoint, struct quantization *quantization, size_t rows,
                     size_t columns) {
    struct weight_source source;
    struct error err = {0};
    const struct tensor *twice;
    bool found = false;
    demand(tensors_order(&checkpoint->tensors, &twice, &err) == STATUS_OK);
    if (twice != NULL) {
        return;
    }
    demand(packing_settle(quantization, checkpoint, &err) == STATUS_OK);
    int status = packing_find(&source, checkpoint, quantization, "a", rows, columns, &found, &err);
    demand(status == STATUS_OK || status == STATUS_DATA);
    demand(source.component_count <= PACKING_COMPONENTS);
    if (status == STATUS_OK && found) {
        fuzz_accepted++;
        read_numbers(checkpoint, &source, rows, columns);
    }
}

static bool read_config(struct quantization *out, const char *line) {
    char text[LINE + 64];
    struct values values;
    struct error err = {0};
    snprintf(text, sizeof text, "{\"quantization_config\": %s}", line);
    if (values_open_json(&values, text, strlen(text), "config.json", &err) != STATUS_OK) {
        return false;
    }
    int status = quantization_read(out, &values, &err);
    demand(status == STATUS_OK || status == STATUS_DATA);
    values_close(&values);
    return status == STATUS_OK;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    static char path[] = "fuzz";
    struct checkpoint_file file = {.path = path, .name = path};
    struct checkpoint checkpoint = {.files = &file, .count = 1};
    struct input input = {data, size};
    struct quantization quantization;
    char line[LINE];
    unsigned rows;
    unsigned columns;
    if (!next_line(&input, line) || sscanf(line, "%4u %4u", &rows, &columns) != 2 || rows == 0 ||
        columns == 0 || rows > LARGEST_SIDE || columns > LARGEST_SIDE || !next_line(&input, line) ||
        !read_config(&quantization, line)) {
        return 0;
    }
    while (next_line(&input, line) && checkpoint.tensors.count < 16) {
        add_tensor(&checkpoint, line);
    }
    file.descriptor = memfd_create("fuzz", MFD_CLOEXEC);
    demand(file.descriptor >= 0);
    write_tensors(&checkpoint, &input);
    look_for(&checkpoint, &quantization, rows, columns);
    close(file.descriptor);
    tensors_destroy(&checkpoint.tensors);
    return 0;
}
