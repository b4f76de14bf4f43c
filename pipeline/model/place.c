// SPDX-License-Identifier: MIT
#include "model/place.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const names[] = {
    [MODEL_CONFIG] = "config.json",
    [MODEL_TOKENIZER] = "tokenizer.json",
    [MODEL_WEIGHTS] = "model.safetensors",
    [MODEL_WEIGHTS_INDEX] = "model.safetensors.index.json",
};

// A file that cannot be read is none here: its reader says why.
static bool begins_as_gguf(const char *path) {
    char magic[4];
    int descriptor;
    size_t size;
    struct error ignored;
    if (file_open(&descriptor, &size, path, &ignored) != STATUS_OK) {
        return false;
    }
    bool fits = size >= sizeof magic &&
                file_read_at(descriptor, magic, sizeof magic, 0, path, &ignored) == STATUS_OK &&
                memcmp(magic, "GGUF", sizeof magic) == 0;
    close(descriptor);
    return fits;
}

int model_form(const char *model, enum model_form *out, struct error *err) {
    struct stat info;
    *out = MODEL_FORM_NONE;
    if (stat(model, &info) != 0) {
        return errno == ENOENT || errno == ENOTDIR
                   ? STATUS_OK
                   : error_set_errno(err, STATUS_DATA, "cannot look at %s", model);
    }
    *out = S_ISREG(info.st_mode)   ? (begins_as_gguf(model) ? MODEL_FORM_GGUF : MODEL_FORM_FILE)
           : S_ISDIR(info.st_mode) ? MODEL_FORM_FOLDER
                                   : MODEL_FORM_OTHER;
    return STATUS_OK;
}

const char *model_part_name(enum model_part part) {
    return names[part];
}

int model_part_path(char out[PATH_SIZE], const char *model, enum model_part part, struct error *err) {
    return model_file_path(out, model, names[part], err);
}

bool model_has_part(const char *model, enum model_part part) {
    return model_has_file(model, names[part]);
}

int model_file_path(char out[PATH_SIZE], const char *model, const char *name, struct error *err) {
    return path_join(out, PATH_SIZE, model, name, err);
}

bool model_has_file(const char *model, const char *name) {
    char path[PATH_SIZE];
    struct error ignored;
    return model_file_path(path, model, name, &ignored) == STATUS_OK && file_exists(path);
}

int model_tokenizer_path(char out[PATH_SIZE], const char *model, const char *chosen, struct error *err) {
    enum model_form form;
    struct error ignored; // who opens the model says why it cannot be looked at
    if (chosen != NULL) {
        return path_join(out, PATH_SIZE, "", chosen, err);
    }
    if (model_form(model, &form, &ignored) != STATUS_OK || form != MODEL_FORM_GGUF) {
        return model_part_path(out, model, MODEL_TOKENIZER, err);
    }
    char folder[PATH_SIZE];
    TRY(path_folder(folder, sizeof folder, model, err));
    TRY(model_part_path(out, folder, MODEL_TOKENIZER, err));
    return file_exists(out) ? STATUS_OK : path_join(out, PATH_SIZE, "", model, err);
}
