// SPDX-License-Identifier: MIT
#include "report/content.h"

#include <string.h>

static int read_notes(struct content *content, struct ledger *ledger, struct error *err) {
    const struct {
        const char *key;
        struct buffer *value;
    } notes[] = {{"shards.model", &content->model},
                 {"model.path", &content->model_path},
                 {"device.name", &content->device},
                 {"device.reason", &content->device_reason},
                 {"shards.warnings", &content->warnings}};
    bool found;
    for (size_t i = 0; i < sizeof notes / sizeof notes[0]; i++) {
        TRY(ledger_note(ledger, notes[i].key, notes[i].value, &found, err));
    }
    return STATUS_OK;
}

int content_read(struct content *content, struct ledger *ledger, const struct report_facts *facts,
                 struct error *err) {
    bool found;
    TRY(history_read(&content->history, ledger, facts->now, facts->running, err));
    TRY(tallies_begin(&content->tallies, err));
    TRY(tallies_add(&content->tallies, ledger, err));
    tallies_order(&content->tallies);
    TRY(ledger_identity(ledger, &content->identity, &found, err));
    return read_notes(content, ledger, err);
}

int content_read_batches(struct content *content, struct ledger *ledger, double axis_seconds,
                         struct error *err) {
    timeline_arrange(&content->history.timeline, axis_seconds);
    return history_read_batches(&content->history, ledger, err);
}

int content_read_latents(struct content *content, const char *folder, struct error *err) {
    enum { FEWEST = 3 };
    struct sample *sample = &content->sample;
    TRY(sample_read(sample, folder, &content->history, err));
    return sample->rows < FEWEST ? STATUS_OK
                                 : pca_fit(&content->pca, sample->vectors, sample->rows, sample->hidden, err);
}

void content_destroy(struct content *content) {
    history_destroy(&content->history);
    tallies_destroy(&content->tallies);
    sample_destroy(&content->sample);
    pca_destroy(&content->pca);
    identity_destroy(&content->identity);
    buffer_destroy(&content->model);
    buffer_destroy(&content->model_path);
    buffer_destroy(&content->device);
    buffer_destroy(&content->device_reason);
    buffer_destroy(&content->warnings);
}
