// SPDX-License-Identifier: MIT
#include "checkpoints/ledger_place.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/aside.h"
#include "base/json.h"
#include "checkpoints/run_folder.h"

enum { FORMAT = 1, FILE_MOST = 1 << 16 };

int ledger_place_token(char out[LEDGER_PLACE_TOKEN], struct error *err) {
    return aside_token(out, LEDGER_PLACE_TOKEN, err);
}

bool ledger_place_is(const struct ledger_place *own, const struct ledger_place *place) {
    return strcmp(own->token, place->token) == 0 || strcmp(own->previous, place->token) == 0;
}

// ---- the file ----

static int take_text(char *out, size_t size, const json_t *object, const char *key, struct error *err) {
    const char *text = NULL;
    TRY(json_get_string(object, key, &text, err));
    return text != NULL && snprintf(out, size, "%s", text) < (int)size
               ? STATUS_OK
               : error_set(err, STATUS_DATA, "its \"%s\" is missing or too long", key);
}

static int take_place(struct ledger_place *place, const json_t *object, struct error *err) {
    int64_t format = 0;
    int64_t launch = 0;
    TRY(json_get_integer(object, "format", FORMAT, FORMAT, &format, err));
    TRY(json_get_integer(object, "launch", 0, INT64_MAX, &launch, err));
    TRY(json_get_boolean(object, "copied", &place->copied, err));
    TRY(take_text(place->run, sizeof place->run, object, "run", err));
    TRY(take_text(place->token, sizeof place->token, object, "token", err));
    TRY(take_text(place->previous, sizeof place->previous, object, "previous", err));
    TRY(take_text(place->host, sizeof place->host, object, "host", err));
    TRY(take_text(place->path, sizeof place->path, object, "path", err));
    TRY(take_text(place->output, sizeof place->output, object, "output", err));
    place->launch = (uint64_t)launch;
    return place->token[0] != 0 ? STATUS_OK : error_set(err, STATUS_DATA, "its \"token\" is empty");
}

// A file that is there and cannot be read is a matter of its file system.
static int read_text(struct buffer *text, const char *path, struct error *err) {
    TRY(file_check_own(path, err));
    int status = file_read_own(text, path, FILE_MOST, err);
    return status == STATUS_DATA ? (err->status = STATUS_WRITE) : status;
}

int ledger_place_read(struct ledger_place *place, const char *folder, bool *found, struct error *err) {
    char path[PATH_SIZE];
    struct buffer text = {0};
    json_t *object = NULL;
    *place = (struct ledger_place){0};
    *found = false;
    TRY(run_folder_file(path, folder, LEDGER_PLACE_FILE, err));
    TRY(file_look(path, found, err));
    if (!*found) {
        return STATUS_OK;
    }
    int status;
    TRY_TO(done, status = read_text(&text, path, err));
    TRY_TO(done, status = json_parse(&object, text.data == NULL ? "" : text.data, text.size, path, err));
    status = take_place(place, object, err);
    if (status != STATUS_OK) {
        error_wrap(err, "%s", path);
    }
done:
    json_decref(object);
    buffer_destroy(&text);
    return status;
}

int ledger_place_of_run(struct ledger_place *place, const char *folder, bool *found, struct error *err) {
    int status = ledger_place_read(place, folder, found, err);
    if (status == STATUS_DATA) {
        struct error cause = *err;
        error_set(err, status,
                  "%s; restore it: the machine of the last launch has the same file in the folder of the "
                  "ledger (run.ledger); if that is lost, remove it here too, and the run goes on from the "
                  "ledger.sqlite in %s",
                  cause.message, folder);
    }
    return status;
}

int ledger_place_write(const struct ledger_place *place, const char *folder, struct error *err) {
    char path[PATH_SIZE];
    TRY(run_folder_file(path, folder, LEDGER_PLACE_FILE, err));
    json_t *object = json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:b}", "format", FORMAT, "run",
                               place->run, "token", place->token, "previous", place->previous, "host",
                               place->host, "path", place->path, "output", place->output, "launch",
                               (json_int_t)place->launch, "copied", place->copied);
    char *text = object == NULL ? NULL : json_dumps(object, JSON_INDENT(1));
    json_decref(object);
    if (text == NULL) { // no memory, or a path that is not UTF-8
        return error_set(err, STATUS_WRITE, "%s cannot name %s: a path has to be UTF-8", path, place->path);
    }
    int status = file_write_atomic(path, text, strlen(text), err);
    free(text);
    return status;
}

// ---- for readers ----

// Whatever is wrong with a folder that another machine may have under this name: it is not the ledger's.
static bool is_here(const struct ledger_place *place) {
    struct ledger_place own;
    struct error ignored;
    bool found = false;
    return ledger_place_read(&own, place->path, &found, &ignored) == STATUS_OK && found &&
           ledger_place_is(&own, place);
}

int ledger_place_here(char out[PATH_SIZE], const char *folder, struct error *err) {
    struct ledger_place place;
    bool found = false;
    out[0] = 0;
    TRY(ledger_place_read(&place, folder, &found, err));
    if (found && !place.copied && is_here(&place)) {
        memcpy(out, place.path, PATH_SIZE);
    }
    return STATUS_OK;
}

int ledger_place_find(struct ledger_source *source, const char *folder, struct error *err) {
    struct ledger_place place;
    char copy[PATH_SIZE];
    bool found = false;
    *source = (struct ledger_source){0};
    TRY(path_join(source->folder, sizeof source->folder, "", folder, err));
    TRY(ledger_place_of_run(&place, folder, &found, err));
    if (!found) {
        return STATUS_OK;
    }
    TRY(run_folder_file(copy, folder, "ledger.sqlite", err));
    bool there = file_exists(copy);
    if (place.copied && there) {
        source->is_copy = true;
        return STATUS_OK;
    }
    if (is_here(&place)) {
        memcpy(source->folder, place.path, sizeof source->folder);
        return STATUS_OK;
    }
    snprintf(source->elsewhere, sizeof source->elsewhere, "launch %" PRIu64 " %s on %s with the ledger in %s",
             place.launch, place.copied ? "ended" : "works", place.host, place.path);
    source->is_copy = true;
    source->none = !there;
    return STATUS_OK;
}
