// SPDX-License-Identifier: MIT
#include "start/recorded.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/place.h"

#define MODEL_NOTE "shards.model"
#define WARNINGS_NOTE "shards.warnings"

static const char retired_name[] = "model.name";

// The last part of a path, and the path without it.
static const char *take_last(char *path) {
    char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return path;
    }
    *slash = 0;
    return slash + 1;
}

// .../models--ORG--NAME/snapshots/REVISION
static const char *name_in_cache(char *path) {
    static const char prefix[] = "models--";
    if (strcmp(take_last(path), "snapshots") != 0) {
        return NULL;
    }
    const char *folder = take_last(path);
    if (strncmp(folder, prefix, sizeof prefix - 1) != 0) {
        return NULL;
    }
    const char *name = folder + sizeof prefix - 1;
    for (const char *at = strstr(name, "--"); at != NULL; at = strstr(name, "--")) {
        name = at + 2;
    }
    return name;
}

void recorded_model_name(char out[RECORDED_NAME], const char *path) {
    char full[PATH_SIZE];
    enum model_form form;
    struct error ignored;
    // The Hub's cache and others keep files under their hashes: what points there has the name.
    bool is_file = model_form(path, &form, &ignored) == STATUS_OK && form == MODEL_FORM_GGUF;
    char *real = is_file ? NULL : realpath(path, NULL);
    snprintf(full, sizeof full, "%s", real == NULL ? path : real);
    free(real);
    snprintf(out, RECORDED_NAME, "%.*s", RECORDED_NAME - 1, take_last(full));
    const char *name = name_in_cache(full);
    if (name != NULL && name[0] != 0) {
        snprintf(out, RECORDED_NAME, "%.*s", RECORDED_NAME - 1, name);
    }
}

// Whatever another version put there is cut to what this one has room for.
static int read_model(struct recorded *recorded, const struct inputs *inputs, struct ledger *ledger,
                      const struct identity *stored, struct error *err) {
    struct buffer text = {0};
    bool found = false;
    const char *earlier = identity_get(stored, retired_name);
    int status;
    TRY_TO(done, status = ledger_note(ledger, MODEL_NOTE, &text, &found, err));
    if (found && text.size > 0) {
        snprintf(recorded->model, sizeof recorded->model, "%s", text.data);
    } else if (earlier != NULL) {
        snprintf(recorded->model, sizeof recorded->model, "%s", earlier);
    } else {
        recorded_model_name(recorded->model, inputs_model_path(inputs));
    }
done:
    buffer_destroy(&text);
    return status;
}

int recorded_settle(struct recorded *recorded, const struct inputs *inputs, struct ledger *ledger,
                    const struct identity *stored, struct error *err) {
    *recorded = (struct recorded){0};
    if (stored != NULL) {
        bool found = false;
        TRY(read_model(recorded, inputs, ledger, stored, err));
        return ledger_note(ledger, WARNINGS_NOTE, &recorded->warnings, &found, err);
    }
    recorded_model_name(recorded->model, inputs_model_path(inputs));
    TRY(buffer_append(&recorded->warnings, inputs->warnings.data, inputs->warnings.size, err));
    TRY(ledger_set_note(ledger, MODEL_NOTE, recorded->model, err));
    return ledger_set_note(ledger, WARNINGS_NOTE,
                           recorded->warnings.data == NULL ? "" : recorded->warnings.data, err);
}

void recorded_destroy(struct recorded *recorded) {
    buffer_destroy(&recorded->warnings);
    *recorded = (struct recorded){0};
}

int recorded_carry(const struct identity *stored, struct identity *now, struct error *err) {
    const char *value = identity_get(stored, retired_name);
    return value == NULL ? STATUS_OK : identity_add(now, retired_name, value, err);
}
