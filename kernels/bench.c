// See bench.h. One batch of activations serves every measurement; its numbers are small and random.
#include "kernels/bench.h"

#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/size.h"
#include "kernels/device_ops.h"

static const struct bench_shape default_shapes[] = {
    {2048, 4096, 1024}, {2048, 1024, 2048}, {2048, 6144, 1024}, {2048, 1024, 3072},
    {8192, 4096, 1024}, {8192, 1024, 2048}, {8192, 6144, 1024}, {8192, 1024, 3072},
};
static const size_t default_lengths[] = {300, 2048, 8192};

enum { CHUNK = 1 << 16 }; // random numbers made once and loaded over and over

struct bench {
    struct device *device;
    struct bench_options options;
    FILE *out;
    size_t most_in;      // numbers of the largest input
    size_t most_out;     // and output
    size_t most_columns; // and vector
    size_t most_tokens;
    size_t most_texts;
    struct device_attention attention;
    float *random;                  // [CHUNK], host memory
    struct device_matrix *matrices; // [shape_count], host memory
    void *x;
    void *y;
    void *vector;    // [most_columns]
    float *angles;   // [head_dim / 2]: cosine and sine of the only row
    int32_t *rows;   // [most_tokens] of zeros: rope rows
    int32_t *starts; // [most_texts + 1]
    void *scratch;
    int32_t *staging; // [most_texts + 1]
};

static struct bench_options with_defaults(const struct bench_options *given) {
    struct bench_options options = *given;
    if (options.shapes == NULL) {
        options.shapes = default_shapes;
        options.shape_count = sizeof default_shapes / sizeof default_shapes[0];
    }
    if (options.heads.heads == 0) {
        options.heads = (struct device_heads){16, 8, 128};
    }
    if (options.text_lengths == NULL) {
        options.text_lengths = default_lengths;
        options.text_length_count = sizeof default_lengths / sizeof default_lengths[0];
    }
    options.attention_tokens = options.attention_tokens > 0 ? options.attention_tokens : 8192;
    options.repeats = options.repeats > 0 ? options.repeats : 3;
    return options;
}

// The largest of everything that will be measured.
static void measure_needs(struct bench *bench) {
    const struct bench_options *options = &bench->options;
    for (size_t i = 0; i < options->shape_count; i++) {
        const struct bench_shape *shape = &options->shapes[i];
        bench->most_in = size_max(bench->most_in, shape->tokens * shape->columns);
        bench->most_out = size_max(bench->most_out, shape->tokens * shape->rows);
        bench->most_columns = size_max(bench->most_columns, shape->columns);
    }
    size_t longest = 0;
    for (size_t i = 0; i < options->text_length_count; i++) {
        size_t length = options->text_lengths[i];
        size_t texts = size_max(options->attention_tokens / length, 1);
        longest = size_max(longest, length);
        bench->most_texts = size_max(bench->most_texts, texts);
        bench->most_tokens = size_max(bench->most_tokens, texts * length);
    }
    struct device_heads heads = options->heads;
    size_t qkv = (heads.heads + 2 * heads.kv_heads) * heads.head_dim;
    bench->most_in = size_max(bench->most_in, bench->most_tokens * qkv);
    bench->most_out = size_max(bench->most_out, bench->most_tokens * heads.heads * heads.head_dim);
    bench->most_columns = size_max(bench->most_columns, heads.head_dim);
    bench->attention = (struct device_attention){heads, 1.0f / sqrtf((float)heads.head_dim), 0, longest};
}

static int add_matrices(struct bench *bench, struct device_plan *plan, struct error *err) {
    for (size_t i = 0; i < bench->options.shape_count; i++) {
        const struct bench_shape *shape = &bench->options.shapes[i];
        size_t bytes;
        if (!device_matrix_bytes(bench->device, shape->rows, shape->columns, &bytes)) {
            return error_set(err, STATUS_INTERNAL, "a matrix of [%zu, %zu] overflows", shape->rows,
                             shape->columns);
        }
        int status = device_plan_add(plan, DEVICE_WEIGHTS, bytes, err);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static int reserve(struct bench *bench, struct error *err) {
    size_t number = dtype_size(bench->device->dtype);
    size_t scratch;
    if (!device_attention_scratch(bench->device, &bench->attention, &scratch)) {
        return error_set(err, STATUS_INTERNAL, "the attention's scratch overflows");
    }
    const struct {
        enum device_purpose purpose;
        size_t bytes;
        void *out; // a pointer to the pointer
    } pieces[] = {
        {DEVICE_WEIGHTS, bench->most_columns * number, &bench->vector},
        {DEVICE_WEIGHTS, bench->options.heads.head_dim / 2 * sizeof(float), &bench->angles},
        {DEVICE_ACTIVATIONS, bench->most_in * number, &bench->x},
        {DEVICE_ACTIVATIONS, bench->most_out * number, &bench->y},
        {DEVICE_ACTIVATIONS, bench->most_tokens * sizeof(int32_t), &bench->rows},
        {DEVICE_ACTIVATIONS, (bench->most_texts + 1) * sizeof(int32_t), &bench->starts},
        {DEVICE_SCRATCH, scratch, &bench->scratch},
        {DEVICE_STAGING, (bench->most_texts + 1) * sizeof(int32_t), &bench->staging},
    };
    enum { PIECES = sizeof pieces / sizeof pieces[0] };
    struct device_plan plan = {0};
    int status = add_matrices(bench, &plan, err);
    for (int i = 0; i < PIECES && status == STATUS_OK; i++) {
        status = device_plan_add(&plan, pieces[i].purpose, pieces[i].bytes, err);
    }
    if (status == STATUS_OK) {
        status = device_reserve(bench->device, &plan, err);
    }
    for (int i = 0; i < PIECES && status == STATUS_OK; i++) {
        void *piece;
        status = device_take(bench->device, pieces[i].purpose, pieces[i].bytes, &piece, err);
        memcpy(pieces[i].out, &piece, sizeof piece);
    }
    return status;
}

static int load_numbers(struct bench *bench, void *out, size_t count, struct error *err) {
    int status = STATUS_OK;
    for (size_t at = 0; at < count && status == STATUS_OK; at += CHUNK) {
        status = device_vector_load(bench->device, out, at, size_min(CHUNK, count - at), bench->random,
                                    DTYPE_F32, err);
    }
    return status;
}

static int load_matrix(struct bench *bench, struct device_matrix *matrix, const struct bench_shape *shape,
                       struct error *err) {
    int status = device_matrix_take(bench->device, matrix, shape->rows, shape->columns, err);
    size_t most = size_max(CHUNK / shape->columns, 1);
    for (size_t row = 0; row < shape->rows && status == STATUS_OK; row += most) {
        size_t count = size_min(most, shape->rows - row);
        status = device_matrix_load(bench->device, matrix, row, count, bench->random, DTYPE_F32, err);
    }
    return status;
}

static int fill(struct bench *bench, struct error *err) {
    void *memory;
    int status = memory_zeroed(&memory, CHUNK, sizeof(float), err);
    bench->random = memory;
    if (status != STATUS_OK) {
        return status;
    }
    status = memory_zeroed(&memory, bench->options.shape_count, sizeof(struct device_matrix), err);
    bench->matrices = memory;
    uint64_t seed = 1;
    for (size_t i = 0; i < CHUNK; i++) {
        bench->random[i] = (float)(2 * random_unit(&seed) - 1);
    }
    for (size_t i = 0; i < bench->options.shape_count && status == STATUS_OK; i++) {
        status = load_matrix(bench, &bench->matrices[i], &bench->options.shapes[i], err);
    }
    if (status == STATUS_OK) {
        status = load_numbers(bench, bench->vector, bench->most_columns, err);
    }
    return status == STATUS_OK ? load_numbers(bench, bench->x, bench->most_in, err) : status;
}

// ---- measuring ----

enum operation { MATMUL, ATTENTION, RMS_NORM, ROPE, SWIGLU };

struct task {
    enum operation operation;
    size_t index;  // of the shape
    size_t tokens; // of attention and row operations
    size_t width;  // hidden or intermediate
    size_t texts;
};

static int run_task(struct bench *bench, const struct task *task, struct error *err) {
    struct device *device = bench->device;
    switch (task->operation) {
    case MATMUL:
        return device_matmul(device, bench->y, bench->x, &bench->matrices[task->index], NULL,
                             bench->options.shapes[task->index].tokens, DEVICE_STORE, err);
    case ATTENTION:
        return device_attention(device, bench->y, bench->x, &bench->attention, bench->starts, bench->staging,
                                task->texts, bench->scratch, err);
    case RMS_NORM:
        return device_rms_norm(device, bench->y, bench->x, bench->vector, 1e-6f, task->tokens, task->width,
                               err);
    case ROPE:
        return device_qk_norm_rope(device, bench->x, bench->vector, bench->vector, 1e-6f, bench->angles,
                                   bench->angles, bench->rows, bench->options.heads, task->tokens, err);
    case SWIGLU:
        return device_swiglu(device, bench->y, bench->x, task->tokens, task->width, err);
    }
    return STATUS_OK;
}

struct measured {
    double seconds; // of the fastest of options.repeats runs
    double peak;    // the greatest, in operations a second, of the peaks measured between them
};

static int run_once(struct bench *bench, const struct task *task, double *seconds, struct error *err) {
    struct device_mark mark;
    double started = clock_seconds();
    int status = run_task(bench, task, err);
    status = status == STATUS_OK ? device_mark(bench->device, &mark, err) : status;
    status = status == STATUS_OK ? device_wait(bench->device, mark, NULL, err) : status;
    *seconds = clock_seconds() - started;
    return status;
}

// One run that is not counted, then runs and peaks in turn: on a machine whose speed wanders (shared cores,
// clocks) the two still belong together.
static int time_task(struct bench *bench, const struct task *task, struct measured *out, struct error *err) {
    *out = (struct measured){.seconds = INFINITY};
    double seconds;
    int status = run_once(bench, task, &seconds, err);
    for (int i = 0; i < bench->options.repeats && status == STATUS_OK; i++) {
        double peak;
        status = bench->device->ops->peak(bench->device, bench->device->dtype, &peak, err);
        status = status == STATUS_OK ? run_once(bench, task, &seconds, err) : status;
        if (status == STATUS_OK) {
            out->seconds = fmin(out->seconds, seconds);
            out->peak = fmax(out->peak, peak);
        }
    }
    return status;
}

static void print_rate(struct bench *bench, const char *name, double operations,
                       const struct measured *measured) {
    double rate = operations / measured->seconds;
    fprintf(bench->out, "%-40s %10.1f GFLOP/s %8.1f %% of %8.1f\n", name, rate * 1e-9,
            100 * rate / measured->peak, measured->peak * 1e-9);
}

static int bench_peaks(struct bench *bench, struct error *err) {
    double f32 = 0;
    double own = 0;
    for (int i = 0; i < 4 * bench->options.repeats; i++) {
        double rate;
        int status = bench->device->ops->peak(bench->device, DTYPE_F32, &rate, err);
        f32 = fmax(f32, rate);
        status = status == STATUS_OK
                     ? bench->device->ops->peak(bench->device, bench->device->dtype, &rate, err)
                     : status;
        if (status != STATUS_OK) {
            return status;
        }
        own = fmax(own, rate);
    }
    fprintf(bench->out, "%-40s %10.1f GFLOP/s\n", "peak of float32 multiply-adds", f32 * 1e-9);
    fprintf(bench->out, "%-40s %10.1f GFLOP/s %8.2f x float32\n", "peak of this device's dtype", own * 1e-9,
            own / f32);
    return STATUS_OK;
}

static int bench_products(struct bench *bench, struct error *err) {
    for (size_t i = 0; i < bench->options.shape_count; i++) {
        const struct bench_shape *shape = &bench->options.shapes[i];
        struct task task = {.operation = MATMUL, .index = i};
        struct measured measured;
        int status = time_task(bench, &task, &measured, err);
        if (status != STATUS_OK) {
            return status;
        }
        char name[96];
        snprintf(name, sizeof name, "matmul, %zu tokens, %zu x %zu", shape->tokens, shape->rows,
                 shape->columns);
        print_rate(bench, name, 2.0 * (double)shape->tokens * (double)shape->rows * (double)shape->columns,
                   &measured);
    }
    return STATUS_OK;
}

static int bench_attention(struct bench *bench, size_t length, struct error *err) {
    size_t texts = size_max(bench->options.attention_tokens / length, 1);
    for (size_t i = 0; i <= texts; i++) {
        bench->staging[i] = (int32_t)(i * length);
    }
    struct task task = {.operation = ATTENTION, .texts = texts};
    struct measured measured;
    int status =
        device_upload(bench->device, bench->starts, bench->staging, (texts + 1) * sizeof(int32_t), err);
    status = status == STATUS_OK ? time_task(bench, &task, &measured, err) : status;
    if (status != STATUS_OK) {
        return status;
    }
    struct device_heads heads = bench->options.heads;
    double pairs = (double)texts * (double)length * ((double)length + 1) / 2; // of a query and a key it sees
    char name[96];
    snprintf(name, sizeof name, "attention, %zu of %zu tokens", texts, length);
    print_rate(bench, name, 4.0 * pairs * (double)heads.heads * (double)heads.head_dim, &measured);
    return STATUS_OK;
}

// Bytes read and written a second by the operations on rows, with as many tokens as the attention's batch.
static int bench_rows(struct bench *bench, struct error *err) {
    struct device_heads heads = bench->options.heads;
    size_t all = (heads.heads + 2 * heads.kv_heads) * heads.head_dim;
    size_t turned = (heads.heads + heads.kv_heads) * heads.head_dim;
    size_t hidden = heads.heads * heads.head_dim;
    size_t tokens = bench->most_tokens;
    const struct {
        const char *name;
        struct task task;
        size_t numbers; // read and written a token
    } lines[] = {
        {"rms_norm", {.operation = RMS_NORM, .tokens = tokens, .width = hidden}, 2 * hidden},
        {"swiglu",
         {.operation = SWIGLU, .tokens = tokens, .width = all / 2 < hidden ? all / 2 : hidden},
         3 * (all / 2 < hidden ? all / 2 : hidden)},
        {"qk_norm_rope", {.operation = ROPE, .tokens = tokens}, 2 * turned}, // last: it overwrites its input
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct measured measured;
        int status = time_task(bench, &lines[i].task, &measured, err);
        if (status != STATUS_OK) {
            return status;
        }
        double bytes = (double)(lines[i].numbers * tokens * dtype_size(bench->device->dtype));
        fprintf(bench->out, "%-40s %10.1f GB/s\n", lines[i].name, bytes / measured.seconds * 1e-9);
    }
    return STATUS_OK;
}

static int measure(struct bench *bench, struct error *err) {
    struct device_description about;
    device_describe(bench->device, &about);
    fprintf(bench->out, "%s, path %s, %d threads, %s\n", about.name, about.path, about.threads,
            dtype_name(bench->device->dtype));
    int status = bench_peaks(bench, err);
    status = status == STATUS_OK ? bench_products(bench, err) : status;
    for (size_t i = 0; i < bench->options.text_length_count && status == STATUS_OK; i++) {
        status = bench_attention(bench, bench->options.text_lengths[i], err);
    }
    return status == STATUS_OK ? bench_rows(bench, err) : status;
}

int bench_device(struct device *device, const struct bench_options *options, FILE *out, struct error *err) {
    struct bench bench = {.device = device, .options = with_defaults(options), .out = out};
    measure_needs(&bench);
    int status = reserve(&bench, err);
    status = status == STATUS_OK ? fill(&bench, err) : status;
    device_seal(device);
    status = status == STATUS_OK ? measure(&bench, err) : status;
    free(bench.matrices);
    free(bench.random);
    return status == STATUS_OK ? STATUS_OK : error_wrap(err, "benchmark");
}
