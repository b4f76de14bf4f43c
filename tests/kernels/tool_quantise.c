// SPDX-License-Identifier: MIT
// Quantises float32 numbers of a file for test_quantise.py, in pieces as a stream of rows is.
//   tool_quantise nf4 BLOCK PIECE IN OUT       codes, absmax; PIECE numbers at a time, a multiple of BLOCK
//   tool_quantise absmax 0 0 IN OUT            codes, nested absmax, offset
//   tool_quantise int8 COLUMNS PIECE IN OUT    codes, absmax; PIECE rows at a time
//   tool_quantise speed BLOCK TIMES IN OUT     numbers a second of nf4, as text
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "kernels/quantise.h"

static void *must(void *pointer) {
    if (pointer == NULL) {
        exit(1);
    }
    return pointer;
}

static float *read_all(const char *path, size_t *count) {
    FILE *file = must(fopen(path, "rb"));
    fseek(file, 0, SEEK_END);
    *count = (size_t)ftell(file) / sizeof(float);
    rewind(file);
    float *numbers = must(malloc(*count * sizeof *numbers + 1));
    if (fread(numbers, sizeof *numbers, *count, file) != *count) {
        exit(1);
    }
    fclose(file);
    return numbers;
}

static void give(const char *path, const void *codes, size_t bytes, const float *floats, size_t count) {
    FILE *file = must(fopen(path, "wb"));
    if (fwrite(codes, 1, bytes, file) != bytes || fwrite(floats, sizeof *floats, count, file) != count ||
        fclose(file) != 0) {
        exit(1);
    }
}

static int run_nf4(const char *out, const float *numbers, size_t count, size_t block, size_t piece,
                   struct error *err) {
    size_t blocks = quantise_blocks(count, block);
    unsigned char *codes = must(malloc(count / 2 + 1));
    float *absmax = must(malloc(blocks * sizeof *absmax + 1));
    int status = STATUS_OK;
    for (size_t at = 0; at < count && status == STATUS_OK; at += piece) {
        status = quantise_nf4(codes + at / 2, absmax + at / block, numbers + at, at,
                              size_min(piece, count - at), block, err);
    }
    give(out, codes, (count + 1) / 2, absmax, blocks);
    free(absmax);
    free(codes);
    return status;
}

static void run_absmax(const char *out, const float *absmax, size_t blocks) {
    size_t nests = quantise_blocks(blocks, QUANTISE_ABSMAX_BLOCK);
    unsigned char *codes = must(malloc(blocks + 1));
    float *nested = must(malloc((nests + 1) * sizeof *nested));
    quantise_absmax(codes, nested, &nested[nests], absmax, blocks);
    give(out, codes, blocks, nested, nests + 1);
    free(nested);
    free(codes);
}

static int run_int8(const char *out, const float *numbers, size_t count, size_t columns, size_t piece,
                    struct error *err) {
    size_t rows = count / columns;
    signed char *codes = must(malloc(count + 1));
    float *absmax = must(malloc(rows * sizeof *absmax + 1));
    int status = STATUS_OK;
    for (size_t row = 0; row < rows && status == STATUS_OK; row += piece) {
        status = quantise_int8_rows(codes + row * columns, absmax + row, numbers + row * columns, row,
                                    size_min(piece, rows - row), columns, err);
    }
    give(out, codes, count, absmax, rows);
    free(absmax);
    free(codes);
    return status;
}

static int run_speed(const float *numbers, size_t count, size_t block, size_t times, struct error *err) {
    unsigned char *codes = must(malloc(count / 2 + 1));
    float *absmax = must(malloc(quantise_blocks(count, block) * sizeof *absmax + 1));
    int status = STATUS_OK;
    double start = clock_seconds();
    for (size_t i = 0; i < times && status == STATUS_OK; i++) {
        status = quantise_nf4(codes, absmax, numbers, 0, count, block, err);
    }
    printf("%.3g\n", (double)count * (double)times / (clock_seconds() - start));
    free(absmax);
    free(codes);
    return status;
}

int main(int count, char **words) {
    if (count != 6) {
        return 2;
    }
    size_t numbers_count;
    float *numbers = read_all(words[4], &numbers_count);
    size_t first = strtoul(words[2], NULL, 10), second = strtoul(words[3], NULL, 10);
    struct error err = {0};
    int status = STATUS_OK;
    if (strcmp(words[1], "nf4") == 0) {
        status = run_nf4(words[5], numbers, numbers_count, first, second, &err);
    } else if (strcmp(words[1], "absmax") == 0) {
        run_absmax(words[5], numbers, numbers_count);
    } else if (strcmp(words[1], "int8") == 0) {
        status = run_int8(words[5], numbers, numbers_count, first, second, &err);
    } else {
        status = run_speed(numbers, numbers_count, first, second, &err);
    }
    free(numbers);
    fputs(err.message, stderr);
    return error_exit_code(status);
}
