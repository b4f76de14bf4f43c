// SPDX-License-Identifier: MIT
#include "kernels/cuda/cublaslt.h"

#include <glob.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kernels/cuda/cublaslt_places.h"

// CMake gives the major version of the toolkit (STRATA_CUBLAS_MAJOR), and where it found cuBLAS if it did.
#ifndef STRATA_CUBLAS_DIR
#define STRATA_CUBLAS_DIR NULL
#endif

static const char file_name[] = "libcublasLt.so." STRATA_CUBLAS_MAJOR;

// The functions of lt->library. The name of one that it lacks, or NULL.
static const char *resolve(struct cublaslt *lt) {
    const struct {
        const char *name;
        void *place; // a pointer to the function pointer
    } functions[] = {
        {"cublasLtCreate", &lt->Create},
        {"cublasLtDestroy", &lt->Destroy},
        {"cublasLtGetVersion", &lt->GetVersion},
        {"cublasLtGetStatusName", &lt->GetStatusName},
        {"cublasLtMatmulDescCreate", &lt->MatmulDescCreate},
        {"cublasLtMatmulDescDestroy", &lt->MatmulDescDestroy},
        {"cublasLtMatmulDescSetAttribute", &lt->MatmulDescSetAttribute},
        {"cublasLtMatrixLayoutCreate", &lt->MatrixLayoutCreate},
        {"cublasLtMatrixLayoutDestroy", &lt->MatrixLayoutDestroy},
        {"cublasLtMatmulPreferenceCreate", &lt->MatmulPreferenceCreate},
        {"cublasLtMatmulPreferenceDestroy", &lt->MatmulPreferenceDestroy},
        {"cublasLtMatmulPreferenceSetAttribute", &lt->MatmulPreferenceSetAttribute},
        {"cublasLtMatmulAlgoGetHeuristic", &lt->MatmulAlgoGetHeuristic},
        {"cublasLtMatmulAlgoCheck", &lt->MatmulAlgoCheck},
        {"cublasLtMatmulAlgoCapGetAttribute", &lt->MatmulAlgoCapGetAttribute},
        {"cublasLtMatmulAlgoConfigGetAttribute", &lt->MatmulAlgoConfigGetAttribute},
        {"cublasLtMatmulAlgoConfigSetAttribute", &lt->MatmulAlgoConfigSetAttribute},
        {"cublasLtMatmul", &lt->Matmul},
    };
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        void *symbol = library_symbol(lt->library, functions[i].name);
        if (symbol == NULL) {
            return functions[i].name;
        }
        memcpy(functions[i].place, &symbol, sizeof symbol); // C has no cast from data to function pointers
    }
    return NULL;
}

// Loads one file (a name without a slash: as the loader finds it). Why not, when not, is appended to `tried`.
static int try_file(struct cublaslt *lt, const char *file, struct buffer *tried, struct error *err) {
    char why[512];
    const char *const names[] = {file, NULL};
    lt->library = library_open(names, why, sizeof why);
    if (lt->library == NULL) {
        return buffer_printf(tried, err, "; %s", why);
    }
    const char *lacking = resolve(lt);
    size_t major = lacking == NULL ? lt->GetVersion() / 10000 : 0;
    if (lacking == NULL && major == strtoul(STRATA_CUBLAS_MAJOR, NULL, 10)) {
        return STATUS_OK;
    }
    library_close(lt->library);
    *lt = (struct cublaslt){0};
    return lacking != NULL
               ? buffer_printf(tried, err, "; %s: has no function %s", file, lacking)
               : buffer_printf(tried, err, "; %s: is of CUDA %zu, this program of CUDA " STRATA_CUBLAS_MAJOR,
                               file, major);
}

// Tries the files that a folder of cublaslt_places names.
static int try_place(struct cublaslt *lt, const char *place, struct buffer *tried, struct error *err) {
    struct buffer pattern = {0};
    glob_t found = {0};
    int status;
    TRY_TO(done, status = buffer_printf(&pattern, err, "%s/%s", place, file_name));
    int result = glob(pattern.data, 0, NULL, &found);
    if (result == GLOB_NOSPACE) {
        status = error_set(err, STATUS_INTERNAL, "out of memory");
        goto done;
    }
    if (result != 0) {
        TRY_TO(done, status = buffer_printf(tried, err, "; not in %s", place));
    }
    for (size_t i = 0; i < found.gl_pathc && lt->library == NULL; i++) {
        TRY_TO(done, status = try_file(lt, found.gl_pathv[i], tried, err));
    }
done:
    globfree(&found);
    buffer_destroy(&pattern);
    return status;
}

// The loader's way first, then the places that no loader looks into.
static int search(struct cublaslt *lt, struct buffer *tried, struct error *err) {
    struct buffer places = {0};
    int status;
    TRY_TO(done, status = try_file(lt, file_name, tried, err));
    if (lt->library == NULL) {
        TRY_TO(done, status = cublaslt_places(&places, STRATA_CUBLAS_DIR, err));
    }
    for (char *place = places.data; lt->library == NULL && place != NULL && *place != 0;) {
        char *end = strchr(place, '\n');
        *end = 0;
        TRY_TO(done, status = try_place(lt, place, tried, err));
        place = end + 1;
    }
done:
    buffer_destroy(&places);
    if (status == STATUS_OK && lt->library == NULL) {
        return error_set(err, STATUS_DEVICE,
                         "cuBLASLt could not be loaded; " CUBLASLT_VARIABLE
                         " may name its file or folder. Looked "
                         "for%s",
                         tried->data + 1);
    }
    return status;
}

// The file that the user named, or that folder's, and no other.
static int open_named(struct cublaslt *lt, const char *named, struct buffer *tried, struct error *err) {
    struct buffer path = {0};
    struct stat about;
    bool is_folder = stat(named, &about) == 0 && S_ISDIR(about.st_mode);
    // A name without a slash would send the loader to its own folders.
    int status;
    TRY_TO(done, status = buffer_printf(&path, err, "%s%s%s%s", strchr(named, '/') == NULL ? "./" : "", named,
                                        is_folder ? "/" : "", is_folder ? file_name : ""));
    status = try_file(lt, path.data, tried, err);
done:
    buffer_destroy(&path);
    if (status == STATUS_OK && lt->library == NULL) {
        return error_set(err, STATUS_DEVICE,
                         "cuBLASLt could not be loaded, and " CUBLASLT_VARIABLE " names it:%s",
                         tried->data + 1);
    }
    return status;
}

int cublaslt_open(struct cublaslt *lt, struct error *err) {
    struct buffer tried = {0}; // "; FILE: why not" for each
    const char *named = getenv(CUBLASLT_VARIABLE);
    *lt = (struct cublaslt){0};
    int status;
    TRY_TO(done, status = named != NULL && named[0] != 0 ? open_named(lt, named, &tried, err)
                                                         : search(lt, &tried, err));
    status = cublaslt_check(lt, lt->Create(&lt->handle), "cublasLtCreate", err);
done:
    buffer_destroy(&tried);
    return status;
}

void cublaslt_close(struct cublaslt *lt) {
    if (lt->handle != NULL) {
        lt->Destroy(lt->handle);
    }
    library_close(lt->library);
    *lt = (struct cublaslt){0};
}

int cublaslt_check(const struct cublaslt *lt, cublasStatus_t result, const char *call, struct error *err) {
    if (result == CUBLAS_STATUS_SUCCESS) {
        return STATUS_OK;
    }
    bool device = result == CUBLAS_STATUS_NOT_INITIALIZED || result == CUBLAS_STATUS_ALLOC_FAILED ||
                  result == CUBLAS_STATUS_ARCH_MISMATCH;
    return error_set(err, device ? STATUS_DEVICE : STATUS_INTERNAL, "%s: %s", call,
                     lt->GetStatusName(result));
}
