// SPDX-License-Identifier: MIT
// kernels/cuda/library.h on the emulation: the libraries are there or not as the settings say, and their
// functions are those linked in.
#include "emulation.h"

#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>

extern "C" {
#include "kernels/cuda/library.h"
}

#include "cublasLt.h"

namespace {
using emulation::Function;
#define FUNCTION(name)                                                                                       \
    { #name, reinterpret_cast < void *>(name) }
const Function cublaslt_functions[] = {FUNCTION(cublasLtCreate),
                                       FUNCTION(cublasLtDestroy),
                                       FUNCTION(cublasLtGetVersion),
                                       FUNCTION(cublasLtGetStatusName),
                                       FUNCTION(cublasLtMatmulDescCreate),
                                       FUNCTION(cublasLtMatmulDescDestroy),
                                       FUNCTION(cublasLtMatmulDescSetAttribute),
                                       FUNCTION(cublasLtMatrixLayoutCreate),
                                       FUNCTION(cublasLtMatrixLayoutDestroy),
                                       FUNCTION(cublasLtMatmulPreferenceCreate),
                                       FUNCTION(cublasLtMatmulPreferenceDestroy),
                                       FUNCTION(cublasLtMatmulPreferenceSetAttribute),
                                       FUNCTION(cublasLtMatmulAlgoGetHeuristic),
                                       FUNCTION(cublasLtMatmulAlgoCheck),
                                       FUNCTION(cublasLtMatmulAlgoCapGetAttribute),
                                       FUNCTION(cublasLtMatmulAlgoConfigGetAttribute),
                                       FUNCTION(cublasLtMatmulAlgoConfigSetAttribute),
                                       FUNCTION(cublasLtMatmul),
                                       {nullptr, nullptr}};
} // namespace

struct library {
    const Function *functions;
    std::string file;
};

// A file that is named by its path is an emulated cuBLASLt when it says so: "emulated cuBLASLt 12.4.0".
static bool is_cublaslt(const char *path, char *why, size_t why_size) {
    unsigned major, minor, patch;
    std::string word, name;
    std::ifstream file(path);
    if (!file) {
        std::snprintf(why, why_size, "%s: cannot open shared object file: No such file or directory", path);
        return false;
    }
    char dot;
    file >> word >> name >> major >> dot >> minor >> dot >> patch;
    if (!file || word != "emulated" || name != "cuBLASLt") {
        std::snprintf(why, why_size, "%s: invalid ELF header", path);
        return false;
    }
    emulation::cublaslt_version() = major * 10000 + minor * 100 + patch;
    return true;
}

extern "C" struct library *library_open(const char *const *names, char *why, size_t why_size) {
    static library cublaslt = {cublaslt_functions, ""};
    static library nvml = {emulation::nvml_functions(), ""};
    for (size_t i = 0; names[i] != nullptr; i++) {
        if (std::strchr(names[i], '/') != nullptr) {
            if (is_cublaslt(names[i], why, why_size)) {
                cublaslt.file = names[i];
                return &cublaslt;
            }
            continue;
        }
        std::snprintf(why, why_size, "%s: cannot open shared object file: No such file or directory",
                      names[i]);
        if (std::strstr(names[i], "libcublasLt.so") != nullptr && emulation::settings().has_cublaslt) {
            cublaslt.file = names[i];
            return &cublaslt;
        }
        if (std::strstr(names[i], "libnvidia-ml.so") != nullptr && emulation::settings().has_nvml) {
            nvml.file = names[i];
            return &nvml;
        }
    }
    return nullptr;
}

extern "C" void library_file(struct library *library, char *out, size_t size) {
    std::snprintf(out, size, "%s", library->file.c_str());
}

extern "C" void library_close(struct library *) {
}

extern "C" void *library_symbol(struct library *library, const char *name) {
    for (const Function *each = library->functions; each->name != nullptr; each++) {
        if (std::strcmp(each->name, name) == 0) {
            return each->address;
        }
    }
    return nullptr;
}
