// SPDX-License-Identifier: MIT
// What the benchmark says: a line a figure, and the same figures as JSON for programs.
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "bench/parts.h"
#include "kernels/back_end.h"

// ---- the file ----

// A device, a pipe or a link that leads nowhere cannot be replaced.
static bool is_replaceable(const char *path) {
    struct stat about;
    return lstat(path, &about) == 0 ? S_ISREG(about.st_mode) : errno == ENOENT;
}

static int write_in_place(const char *path, const char *text, size_t size, struct error *err) {
    int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    FILE *file = descriptor < 0 ? NULL : fdopen(descriptor, "w");
    bool written = file != NULL && fwrite(text, 1, size, file) == size;
    if (file == NULL && descriptor >= 0) {
        (void)close(descriptor);
    }
    return file != NULL && fclose(file) == 0 && written
               ? STATUS_OK
               : error_set_errno(err, STATUS_WRITE, "cannot write %s", path);
}

static int write_report(struct bench *bench, struct error *err) {
    const char *path = bench->options.json;
    char *text = json_dumps(bench->report, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    if (text == NULL || bench->report_failed) {
        free(text);
        return error_set(err, STATUS_INTERNAL, "a figure of the report cannot be stored");
    }
    size_t size = strlen(text);
    text[size] = '\n'; // instead of the final 0, which nobody needs
    int status = bench->report_replaces ? file_write_atomic(path, text, size + 1, err)
                                        : write_in_place(path, text, size + 1, err);
    free(text);
    return status;
}

int bench_report_save(struct bench *bench, struct error *err) {
    return bench->report != NULL && bench->report_replaces ? write_report(bench, err) : STATUS_OK;
}

int bench_report_finish(struct bench *bench, struct error *err) {
    bench->report_failed =
        json_object_set_new(bench->report, "complete", json_true()) != 0 || bench->report_failed;
    return bench->options.json != NULL ? write_report(bench, err) : STATUS_OK;
}

int bench_report_open(struct bench *bench, size_t blocks, size_t sets, struct error *err) {
    struct device_description about;
    device_describe(bench->device, &about);
    const char *dtype = dtype_name(device_dtype(bench->device));
    const struct bench_shape *shape = bench->options.shape;
    fprintf(bench->out, "%s, path %s, %d threads, %s, %s\n", about.name, about.path, about.threads, dtype,
            shape->name);
    fflush(bench->out);
    bench->report = json_pack(
        "{s:s, s:s, s:s, s:s, s:i, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:[]}", "kind",
        about.kind, "name", about.name, "path", about.path, "identity", about.identity, "threads",
        about.threads, "memory", (json_int_t)about.memory, "dtype", dtype, "shape", shape->name, "hidden",
        (json_int_t)shape->config.hidden, "intermediate", (json_int_t)shape->config.intermediate, "tokens",
        (json_int_t)bench->options.tokens, "cache", (json_int_t)about.cache, "blocks", (json_int_t)blocks,
        "sets", (json_int_t)sets, "complete", 0, "figures");
    if (bench->report == NULL) {
        return error_set(err, STATUS_INTERNAL, "the report on %s cannot be made", about.name);
    }
    bench->report_replaces = bench->options.json != NULL && is_replaceable(bench->options.json);
    return bench_report_save(bench, err); // a path that cannot be written is found out before anything is
                                          // measured
}

void bench_report_close(struct bench *bench) {
    json_decref(bench->report);
    bench->report = NULL;
}

// ---- figures ----

json_t *bench_print(struct bench *bench, const char *what, double value, const char *unit, const char *format,
                    ...) {
    char rest[256];
    va_list list;
    va_start(list, format);
    vsnprintf(rest, sizeof rest, format, list);
    va_end(list);
    int decimals = strcmp(unit, "tokens/s") == 0 ? 0 : (strcmp(unit, "GFLOP/s") == 0 ? 1 : 2);
    fprintf(bench->out, rest[0] != 0 ? "%-44s %10.*f %-7s %s\n" : "%-44s %10.*f %s\n", what, decimals, value,
            unit, rest);
    fflush(bench->out);
    json_t *figure =
        json_pack("{s:s, s:s, s:f, s:s}", "part", bench->part, "what", what, "value", value, "unit", unit);
    if (figure == NULL || json_array_append_new(json_object_get(bench->report, "figures"), figure) != 0) {
        bench->report_failed = true; // not a finite number, or no memory
        return NULL;
    }
    return figure;
}

void bench_add(json_t *figure, const char *key, double value) {
    if (figure != NULL && isfinite(value)) {
        json_object_set_new(figure, key, json_real(value));
    }
}

void bench_add_text(struct bench *bench, const char *key, const char *value) {
    bench->report_failed =
        json_object_set_new(bench->report, key, json_string(value)) != 0 || bench->report_failed;
}

void bench_print_rate(struct bench *bench, const char *name, double operations, double seconds, double limit,
                      const char *of) {
    double rate = operations / seconds;
    json_t *figure = bench_print(bench, name, rate * 1e-9, "GFLOP/s",
                                 of != NULL ? "%8.1f %% of %8.1f, %s" : "%8.1f %% of %8.1f",
                                 100 * rate / limit, limit * 1e-9, of);
    bench_add(figure, "limit", limit * 1e-9);
    if (figure != NULL) {
        bench->report_failed =
            json_object_set_new(figure, "of", json_string(of != NULL ? of : "peak")) != 0 ||
            bench->report_failed;
    }
}

const char *bench_peak_name(const struct bench *bench, char *out, size_t size) {
    const char *instruction = bench->device->ops->peak_instruction;
    if (instruction == NULL || device_dtype(bench->device) == DTYPE_F32) {
        return NULL;
    }
    snprintf(out, size, "peak of %s", instruction);
    return out;
}
