// What the benchmark says: a line a figure, and the same figures as JSON for programs.
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "kernels/bench_private.h"
#include "kernels/device_ops.h"

int bench_report_open(struct bench *bench, struct error *err) {
    struct device_description about;
    device_describe(bench->device, &about);
    const char *dtype = dtype_name(device_dtype(bench->device));
    const struct bench_shape *shape = bench->options.shape;
    fprintf(bench->out, "%s, path %s, %d threads, %s, %s\n", about.name, about.path, about.threads, dtype,
            shape->name);
    bench->report =
        json_pack("{s:s, s:s, s:s, s:s, s:i, s:I, s:s, s:s, s:I, s:I, s:I, s:[]}", "kind", about.kind, "name",
                  about.name, "path", about.path, "identity", about.identity, "threads", about.threads,
                  "memory", (json_int_t)about.memory, "dtype", dtype, "shape", shape->name, "hidden",
                  (json_int_t)shape->hidden, "intermediate", (json_int_t)shape->intermediate, "tokens",
                  (json_int_t)bench->options.tokens, "figures");
    return bench->report != NULL
               ? STATUS_OK
               : error_set(err, STATUS_INTERNAL, "the report on %s cannot be made", about.name);
}

void bench_report_close(struct bench *bench) {
    json_decref(bench->report);
    bench->report = NULL;
}

int bench_report_write(struct bench *bench, struct error *err) {
    if (bench->report_failed) {
        return error_set(err, STATUS_INTERNAL, "a figure of the report cannot be stored");
    }
    if (bench->options.json == NULL) {
        return STATUS_OK;
    }
    return json_dumpf(bench->report, bench->options.json, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) == 0 &&
                   fputc('\n', bench->options.json) != EOF && fflush(bench->options.json) == 0
               ? STATUS_OK
               : error_set_errno(err, STATUS_WRITE, "cannot write the report");
}

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
    if (instruction == NULL || device_dtype(bench->device) != DTYPE_BF16) {
        return NULL;
    }
    snprintf(out, size, "peak of %s", instruction);
    return out;
}
