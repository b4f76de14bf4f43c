// The parts of the benchmark that open devices of their own: packing at load, and scaling with threads.
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/size.h"
#include "kernels/bench_private.h"

enum {
    PIECE = 8 << 20,        // bytes loaded or read at a time
    SCALING_TOKENS = 2048,  // of the batch that threads are compared with
    SCALING_LENGTH = 300,   // of its texts
    LOAD_BYTES = 384 << 20, // of the file that is loaded, at least one block
};

// ---- load ----

// A file of random numbers that lies in the page cache alone.
static int make_file(int *file, size_t bytes, struct error *err) {
    *file = memfd_create("weights", MFD_CLOEXEC);
    if (*file < 0) {
        return error_set_errno(err, STATUS_INTERNAL, "cannot make a file in memory");
    }
    uint16_t *numbers = malloc(PIECE);
    if (numbers == NULL) {
        return error_set(err, STATUS_INTERNAL, "out of memory for the benchmark's file");
    }
    for (size_t i = 0; i < PIECE / sizeof *numbers; i++) {
        numbers[i] = (uint16_t)(0x3c00 + i * 40503 % 512); // bfloat16 of some hundredths
    }
    int status = STATUS_OK;
    for (size_t at = 0; at < bytes && status == STATUS_OK; at += PIECE) {
        if (write(*file, numbers, size_min(PIECE, bytes - at)) < 0) {
            status = error_set_errno(err, STATUS_INTERNAL, "cannot fill a file in memory");
        }
    }
    free(numbers);
    return status;
}

// Seconds to read the file into memory that was not touched before, with as many threads as compute.
static int time_reading(int file, size_t bytes, int threads, double *seconds, struct error *err) {
    struct arena arena;
    int status = arena_create(&arena, bytes, err);
    if (status != STATUS_OK) {
        return status;
    }
    bool failed = false;
    double started = clock_seconds();
#pragma omp parallel for num_threads(threads) schedule(static) reduction(|| : failed)
    for (size_t at = 0; at < bytes; at += PIECE) {
        failed = pread(file, arena.data + at, size_min(PIECE, bytes - at), (off_t)at) < 0 || failed;
    }
    *seconds = clock_seconds() - started;
    arena_destroy(&arena);
    return failed ? error_set(err, STATUS_INTERNAL, "cannot read the file in memory") : STATUS_OK;
}

// Fills the matrices of `count` blocks from the file, in pieces as a model's file is loaded.
static int load_blocks(struct device *device, const struct bench_shape *shape, size_t count,
                       const unsigned char *source, struct error *err) {
    for (size_t i = 0; i < count * MATRICES; i++) {
        struct device_matrix matrix;
        size_t rows;
        size_t columns;
        bench_matrix_size(shape, (enum bench_matrix)(i % MATRICES), &rows, &columns);
        int status = device_matrix_take(device, &matrix, rows, columns, err);
        size_t row_bytes = columns * sizeof(uint16_t);
        size_t step = size_max(PIECE / row_bytes, 1);
        for (size_t row = 0; row < rows && status == STATUS_OK; row += step) {
            size_t some = size_min(step, rows - row);
            status = device_matrix_load(device, &matrix, row, some, source, DTYPE_BF16, err);
            source += some * row_bytes;
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

// Seconds to load the file, mapped anew, into a device's weights that were not touched before.
static int time_loading(const struct bench *bench, size_t count, int file, size_t bytes, double *seconds,
                        struct error *err) {
    struct device *device;
    int status = device_open(&device, "cpu", &bench->opened, err);
    if (status != STATUS_OK) {
        return status;
    }
    struct device_plan plan = {.tokens = 1};
    size_t packed = count * (bench_block_bytes(device, bench->options.shape) + MATRICES * DEVICE_ALIGNMENT);
    void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) {
        status = error_set_errno(err, STATUS_INTERNAL, "cannot map the file in memory");
    }
    status = status == STATUS_OK ? device_plan_add(&plan, DEVICE_WEIGHTS, packed, err) : status;
    status = status == STATUS_OK ? device_reserve(device, &plan, err) : status;
    double started = clock_seconds();
    status = status == STATUS_OK ? load_blocks(device, bench->options.shape, count, map, err) : status;
    *seconds = clock_seconds() - started;
    if (map != MAP_FAILED) {
        munmap(map, bytes);
    }
    device_close(device);
    return status;
}

static bool is_cpu(const struct bench *bench, struct device_description *about) {
    device_describe(bench->device, about);
    return strcmp(about->kind, "cpu") == 0;
}

int bench_load(struct bench *bench, struct error *err) {
    struct device_description about;
    if (!is_cpu(bench, &about)) {
        return STATUS_OK;
    }
    size_t numbers = 0;
    for (int m = 0; m < MATRICES; m++) {
        size_t rows;
        size_t columns;
        bench_matrix_size(bench->options.shape, (enum bench_matrix)m, &rows, &columns);
        numbers += rows * columns;
    }
    size_t one = numbers * sizeof(uint16_t);
    size_t count = (LOAD_BYTES + one - 1) / one;
    size_t bytes = count * one;
    int file = -1;
    double reading = INFINITY;
    double loading = INFINITY;
    int status = make_file(&file, bytes, err);
    for (int i = 0; i < bench->options.repeats && status == STATUS_OK; i++) {
        double seconds = 0;
        status = time_reading(file, bytes, about.threads, &seconds, err);
        reading = fmin(reading, seconds);
        status = status == STATUS_OK ? time_loading(bench, count, file, bytes, &seconds, err) : status;
        loading = fmin(loading, seconds);
    }
    if (file >= 0) {
        close(file);
    }
    if (status == STATUS_OK) {
        bench_print(bench, "loading bfloat16 weights", (double)bytes / loading * 1e-9, "GB/s",
                    "  reading it from the page cache %.2f GB/s: packing adds %.0f %%",
                    (double)bytes / reading * 1e-9, 100 * (loading / reading - 1));
    }
    return status;
}

// ---- threads ----

static int open_blocks(const struct bench *bench, int threads, struct device **device,
                       struct bench_blocks *blocks, struct error *err) {
    struct device_options options = bench->opened;
    options.threads = threads;
    int status = device_open(device, "cpu", &options, err);
    status = status == STATUS_OK
                 ? bench_blocks_open(blocks, *device, bench->options.shape, 1, SCALING_TOKENS, false, err)
                 : status;
    return status == STATUS_OK ? bench_blocks_batch(blocks, SCALING_TOKENS, SCALING_LENGTH, err) : status;
}

enum { COUNTS = 3 }; // of threads that are compared

static int time_block(struct bench_blocks *blocks, double *best, struct error *err) {
    double seconds[STEPS] = {0};
    double all = 0;
    int status = bench_run_steps(blocks, 0, (1u << STEPS) - 1, seconds, err);
    for (int step = 0; step < STEPS; step++) {
        all += seconds[step];
    }
    *best = fmin(*best, all);
    return status;
}

static void print_threads(struct bench *bench, int threads, double faster) {
    char name[96];
    snprintf(name, sizeof name, "a block with %d threads against 1", threads);
    bench_print(bench, name, faster, "x", "%8.1f %% of linear", 100 * faster / threads);
}

// A block with one thread, with two and with all, in turn.
int bench_threads(struct bench *bench, struct error *err) {
    struct device_description about;
    if (!is_cpu(bench, &about)) {
        return STATUS_OK;
    }
    const int threads[COUNTS] = {1, 2, about.threads};
    int counts = about.threads > 2 ? COUNTS : COUNTS - 1;
    struct device *devices[COUNTS] = {NULL};
    struct bench_blocks blocks[COUNTS] = {{0}};
    double best[COUNTS] = {INFINITY, INFINITY, INFINITY};
    int status = STATUS_OK;
    for (int i = 0; i < counts && status == STATUS_OK; i++) {
        status = open_blocks(bench, threads[i], &devices[i], &blocks[i], err);
    }
    for (int run = 0; run <= bench->options.repeats && status == STATUS_OK; run++) {
        for (int i = 0; i < counts && status == STATUS_OK; i++) {
            status = time_block(&blocks[i], &best[i], err);
        }
    }
    for (int i = 0; i < counts; i++) {
        bench_blocks_close(&blocks[i]);
        device_close(devices[i]);
    }
    for (int i = 1; i < counts && status == STATUS_OK; i++) {
        print_threads(bench, threads[i], best[0] / best[i]);
    }
    return status;
}
