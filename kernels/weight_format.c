#include "kernels/weight_format.h"

#include "base/names.h"
#include "base/size.h"
#include "kernels/device.h"

static void expand_plain(float *out, const struct weight_format *format, const struct weight_run *run) {
    dtype_convert(out, DTYPE_F32, run->parts[0] + run->column * format->bytes, format->dtype, run->count);
}

static const struct weight_format formats[] = {
    {.name = "F32", .block = 1, .bytes = 4, .plain = true, .dtype = DTYPE_F32, .expand = expand_plain},
    {.name = "F16", .block = 1, .bytes = 2, .plain = true, .dtype = DTYPE_F16, .expand = expand_plain},
    {.name = "BF16", .block = 1, .bytes = 2, .plain = true, .dtype = DTYPE_BF16, .expand = expand_plain},
};

enum { FORMATS = sizeof formats / sizeof formats[0] };

const struct weight_format *weight_format_find(const char *name) {
    for (size_t i = 0; i < FORMATS; i++) {
        if (strcmp(formats[i].name, name) == 0) {
            return &formats[i];
        }
    }
    return NULL;
}

const struct weight_format *weight_format_of(enum dtype dtype) {
    for (size_t i = 0; i < FORMATS; i++) {
        if (formats[i].plain && formats[i].dtype == dtype) {
            return &formats[i];
        }
    }
    return NULL;
}

const char *weight_format_names(bool plain, char out[WEIGHT_FORMAT_NAMES]) {
    const char *names[FORMATS];
    size_t count = 0;
    for (size_t i = 0; i < FORMATS; i++) {
        if (formats[i].plain || !plain) {
            names[count++] = formats[i].name;
        }
    }
    out[0] = 0;
    for (size_t i = 0; i < count; i++) {
        names_append(out, WEIGHT_FORMAT_NAMES, names[i], i, count);
    }
    return out;
}

// ---- where parts lie ----

static size_t groups_of(size_t count, size_t each) {
    return each == 0 || each >= count ? 1 : (count - 1) / each + 1;
}

// Bytes of one row of part `part`; false on overflow.
static bool row_bytes(const struct weight_format *format, size_t part, size_t columns, size_t *bytes) {
    if (part == 0) {
        return size_mul(groups_of(columns, format->block), format->bytes, bytes);
    }
    const struct weight_companion *companion = &format->companions[part - 1];
    return size_mul(groups_of(columns, companion->columns), companion->bytes, bytes);
}

static size_t shared_rows(const struct weight_format *format, size_t part, size_t rows) {
    size_t shared = part == 0 ? 1 : format->companions[part - 1].rows;
    return shared == 0 ? rows : shared;
}

bool weight_layout(const struct weight_format *format, size_t rows, size_t columns,
                   struct weight_layout *out) {
    *out = (struct weight_layout){0};
    for (size_t part = 0; part <= format->companion_count; part++) {
        size_t bytes;
        size_t shared = shared_rows(format, part, rows);
        out->parts[part].shared = shared;
        out->parts[part].rows = groups_of(rows, shared);
        if (!size_round_up(out->bytes, DEVICE_ALIGNMENT, &out->parts[part].offset) ||
            !row_bytes(format, part, columns, &out->parts[part].row) ||
            !size_mul(out->parts[part].row, out->parts[part].rows, &bytes) ||
            !size_add(out->parts[part].offset, bytes, &out->bytes)) {
            return false;
        }
    }
    return true;
}

// ---- reading ----

void weight_rows_read(void *out, enum dtype dtype, const struct weight_rows *rows, size_t row, size_t column,
                      size_t count) {
    const struct weight_format *format = rows->format;
    struct weight_run run = {.row = row, .column = column};
    if (format->plain) { // whatever its length: no run needs a buffer
        const unsigned char *in = rows->parts[0] + (row * rows->columns + column) * format->bytes;
        dtype_convert(out, dtype, in, format->dtype, count);
        return;
    }
    for (size_t part = 0; part <= format->companion_count; part++) {
        size_t bytes = 0; // it fitted when the matrix was laid out
        size_t shared = shared_rows(format, part, SIZE_MAX);
        row_bytes(format, part, rows->columns, &bytes);
        run.parts[part] = rows->parts[part] + row / shared * bytes;
    }
    for (size_t end = column + count; run.column < end; run.column += WEIGHT_RUN) {
        float numbers[WEIGHT_RUN];
        run.count = size_min(WEIGHT_RUN, end - run.column);
        format->expand(numbers, format, &run);
        dtype_convert((unsigned char *)out + (run.column - column) * dtype_size(dtype), dtype, numbers,
                      DTYPE_F32, run.count);
    }
}
