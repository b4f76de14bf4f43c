// SPDX-License-Identifier: MIT
// An algorithm of cuBLASLt as a line of text, and back. The line names the shape, what cuBLASLt says of the
// algorithm, for people, and the 64 bytes of its descriptor, which cuBLASLt documents as the algorithm
// itself, to be stored and used again with the same version of the library:
//
//   4096x12288 store bias=0 tokens=8192 bfloat16 id=66 tile=20 stages=36 splits=1 reduction=0 swizzle=0
//   custom=0 inner=0 cluster=3 words=<128 hex digits>        (one line)
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "kernels/cuda/cuda_device.h"

enum { WORDS = sizeof(cublasLtMatmulAlgo_t) / sizeof(uint64_t) };
_Static_assert(sizeof(cublasLtMatmulAlgo_t) == 64, "the text of an algorithm holds eight words");

bool algorithm_settings(const struct cublaslt *lt, const cublasLtMatmulAlgo_t *algorithm,
                        struct algorithm_settings *out) {
    const struct {
        cublasLtMatmulAlgoConfigAttributes_t attribute;
        size_t size;
        uint32_t *value;
    } rows[] = {
        {CUBLASLT_ALGO_CONFIG_ID, 4, &out->id},
        {CUBLASLT_ALGO_CONFIG_TILE_ID, 4, &out->tile},
        {CUBLASLT_ALGO_CONFIG_STAGES_ID, 4, &out->stages},
        {CUBLASLT_ALGO_CONFIG_SPLITK_NUM, 4, &out->splits},
        {CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, 4, &out->reduction},
        {CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING, 4, &out->swizzle},
        {CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION, 4, &out->custom},
        {CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID, 2, &out->inner},
        {CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, 2, &out->cluster},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t written;
        *rows[i].value = 0; // a value of two bytes fills the lower half
        if (lt->MatmulAlgoConfigGetAttribute(algorithm, rows[i].attribute, rows[i].value, rows[i].size,
                                             &written) != CUBLAS_STATUS_SUCCESS) {
            return false;
        }
    }
    return true;
}

bool algorithm_in_order(const struct algorithm_settings *settings) {
    return settings->splits <= 1 && settings->reduction == CUBLASLT_REDUCTION_SCHEME_NONE;
}

void algorithm_name(const struct algorithm_settings *settings, char *out, size_t size) {
    snprintf(out, size,
             "id=%" PRIu32 " tile=%" PRIu32 " stages=%" PRIu32 " splits=%" PRIu32 " reduction=%" PRIu32
             " swizzle=%" PRIu32 " custom=%" PRIu32 " inner=%" PRIu32 " cluster=%" PRIu32,
             settings->id, settings->tile, settings->stages, settings->splits, settings->reduction,
             settings->swizzle, settings->custom, settings->inner, settings->cluster);
}

// ---- to text ----

static const char *store_name(enum device_store store) {
    return store == DEVICE_ADD ? "add" : "store";
}

static int print(const struct cuda_device *cuda, const struct matmul *matmul, struct buffer *text,
                 struct error *err) {
    struct algorithm_settings settings;
    char name[ALGORITHM_NAME];
    uint64_t words[WORDS];
    if (!algorithm_settings(&cuda->lt, &matmul->algorithm, &settings)) {
        return error_set(err, STATUS_INTERNAL, "cuBLASLt does not describe its own algorithm");
    }
    algorithm_name(&settings, name, sizeof name);
    memcpy(words, &matmul->algorithm, sizeof words);
    TRY(buffer_printf(text, err, "%zux%zu %s bias=%d tokens=%zu %s %s words=", matmul->rows, matmul->columns,
                      store_name(matmul->store), matmul->bias, cuda->base.tokens,
                      dtype_name(cuda->base.dtype), name));
    for (size_t i = 0; i < WORDS; i++) {
        TRY(buffer_printf(text, err, "%016" PRIx64, words[i]));
    }
    return buffer_printf(text, err, "\n");
}

int cuda_algorithms(const struct device *device, struct buffer *text, struct error *err) {
    const struct cuda_device *cuda = cuda_of_const(device);
    TRY(buffer_printf(text, err, "%s", ""));
    for (size_t turn = 1; turn <= cuda->tuned; turn++) {
        for (size_t i = 0; i < cuda->matmul_count; i++) {
            if (cuda->matmuls[i].tuned == turn) {
                TRY(print(cuda, &cuda->matmuls[i], text, err));
            }
        }
    }
    return STATUS_OK;
}

// ---- from text ----

struct line {
    struct matmul matmul;
    char dtype[16];
};

static bool parse_words(const char *digits, cublasLtMatmulAlgo_t *out) {
    uint64_t words[WORDS];
    for (size_t i = 0; i < WORDS; i++) {
        int used = 0;
        if (strspn(digits, "0123456789abcdef") < 16 ||
            sscanf(digits, "%16" SCNx64 "%n", &words[i], &used) != 1 || used != 16) {
            return false;
        }
        digits += 16;
    }
    memcpy(out, words, sizeof *out);
    return *digits == 0;
}

static bool parse(const char *text, struct line *line) {
    char store[8];
    unsigned bias;
    int used = 0;
    *line = (struct line){0};
    struct matmul *matmul = &line->matmul;
    if (sscanf(text, "%zux%zu %7s bias=%u tokens=%zu %15s %n", &matmul->rows, &matmul->columns, store, &bias,
               &matmul->tokens, line->dtype, &used) != 6 ||
        matmul->rows == 0 || matmul->columns == 0 || bias > 1 || matmul->tokens == 0) {
        return false;
    }
    bool adds = strcmp(store, "add") == 0;
    matmul->store = adds ? DEVICE_ADD : DEVICE_STORE;
    matmul->bias = bias == 1;
    const char *words = strstr(text + used, " words=");
    return (adds || strcmp(store, "store") == 0) && words != NULL &&
           parse_words(words + strlen(" words="), &matmul->algorithm);
}

// Keeps what a line says of this device's number format; lines of others are passed over.
static int keep(struct cuda_device *cuda, const struct line *line, enum matmul_name as, struct error *err) {
    const struct matmul *named = &line->matmul;
    if (strcmp(line->dtype, dtype_name(cuda->base.dtype)) != 0) {
        return STATUS_OK;
    }
    struct matmul *matmul =
        cuda_matmul_get(cuda, named->tokens, named->rows, named->columns, named->bias, named->store);
    if (matmul == NULL) {
        return error_set(err, STATUS_DATA, "more than %d matmul shapes", CUDA_MATMULS);
    }
    matmul->algorithm = named->algorithm;
    matmul->named = as;
    matmul->chosen = false;
    return STATUS_OK;
}

// Every line of a text: kept, or only looked at (MATMUL_UNNAMED).
static int read_lines(struct cuda_device *cuda, const char *text, enum matmul_name as, struct error *err) {
    char one[512];
    for (size_t number = 1; *text != 0; number++) {
        size_t length = strcspn(text, "\n");
        struct line line;
        snprintf(one, sizeof one, "%.*s", length < sizeof one ? (int)length : (int)sizeof one, text);
        if (length >= sizeof one || (length > 0 && !parse(one, &line))) {
            return error_set(err, STATUS_DATA, "line %zu names no algorithm of cuBLASLt: %.60s", number, one);
        }
        if (as != MATMUL_UNNAMED && length > 0) {
            TRY(keep(cuda, &line, as, err));
        }
        text += length + (text[length] == '\n');
    }
    return STATUS_OK;
}

int cuda_set_algorithms(struct device *device, const char *text, bool binding, struct error *err) {
    struct cuda_device *cuda = cuda_of(device);
    if (cuda->tuned > 0) {
        return error_set(err, STATUS_INTERNAL, "algorithms were named after matmuls were tuned");
    }
    TRY(read_lines(cuda, text, MATMUL_UNNAMED, err)); // a text with a mistake names nothing
    return read_lines(cuda, text, binding ? MATMUL_BOUND : MATMUL_SUGGESTED, err);
}
