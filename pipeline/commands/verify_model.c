// SPDX-License-Identifier: MIT
#include "commands/verify_model.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "checkpoints/identity.h"
#include "checkpoints/ledger.h"
#include "model/model.h"

struct recorded_model { // what the ledger says of it; texts may be absent (data NULL)
    struct identity identity;
    struct buffer path;
    struct buffer adapter;
};

static int read_recorded(struct recorded_model *out, const char *folder, struct error *err) {
    struct ledger *ledger = NULL;
    bool found;
    int status;
    TRY_TO(done, status = ledger_open_read(&ledger, folder, err));
    TRY_TO(done, status = ledger_identity(ledger, &out->identity, &found, err));
    TRY_TO(done, status = ledger_note(ledger, "model.path", &out->path, &found, err));
    status = ledger_note(ledger, "model.adapter", &out->adapter, &found, err);
done:
    ledger_close(ledger);
    return status;
}

static int hash_files(const char *path, const char *adapter, char hex[DIGEST_HEX], struct error *err) {
    struct model *model = NULL;
    int status;
    TRY_TO(done, status = model_open(&model, path, err));
    if (adapter != NULL) {
        TRY_TO(done, status = model_set_adapter(model, adapter, err));
    }
    TRY_TO(done, status = model_fingerprint_files(model, NULL, err));
    snprintf(hex, DIGEST_HEX, "%s", model_fingerprint(model));
done:
    model_close(model);
    return status;
}

static int compare(const struct recorded_model *model, const struct verify_listener *to, struct error *err) {
    const char *wanted = identity_get(&model->identity, "model.fingerprint");
    const char *path = model->path.data;
    const char *adapter = model->adapter.data;
    char hex[DIGEST_HEX];
    if (wanted == NULL || path == NULL) {
        verify_say(to, VERIFY_NOTE, "the ledger does not say yet which model the run is computed with");
        return STATUS_OK;
    }
    const char *missing = !file_exists(path)                         ? path
                          : adapter != NULL && !file_exists(adapter) ? adapter
                                                                     : NULL;
    if (missing != NULL) {
        verify_say(to, VERIFY_NOTE, "%s is not there: the model was not compared", missing);
        return STATUS_OK;
    }
    int status = hash_files(path, adapter, hex, err);
    if (status == STATUS_DATA) {
        verify_say(to, VERIFY_FAULT, "the model: %s", err->message);
        return STATUS_OK;
    }
    if (status == STATUS_OK && strcmp(hex, wanted) != 0) {
        verify_say(to, VERIFY_FAULT, "the model %s%s%s has the fingerprint %s; the run was computed with %s",
                   path, adapter == NULL ? "" : " with the adapter ", adapter == NULL ? "" : adapter, hex,
                   wanted);
    }
    return status;
}

int verify_model(const char *folder, verify_tell tell, void *context, struct verify_report *report,
                 struct error *err) {
    const struct verify_listener to = {.tell = tell, .context = context, .report = report};
    struct recorded_model model = {0};
    int status = read_recorded(&model, folder, err);
    if (status == STATUS_OK) {
        status = compare(&model, &to, err);
    }
    identity_destroy(&model.identity);
    buffer_destroy(&model.path);
    buffer_destroy(&model.adapter);
    return status;
}
