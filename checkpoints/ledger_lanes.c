// SPDX-License-Identifier: MIT
#include "checkpoints/ledger_lanes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"

#define LANES_NOTE "device.lanes"

static json_t *lane_json(const struct ledger_lane *lane) {
    json_t *object = json_pack("{s:s, s:I, s:f}", "name", lane->name, "batches", (json_int_t)lane->batches,
                               "tokens_per_second", lane->tokens_per_second);
    for (int i = 0; i < LEDGER_FIGURES; i++) {
        double value;
        if (ledger_device_get(&lane->figures, (enum ledger_figure)i, &value)) {
            json_object_set_new(object, ledger_figure_name((enum ledger_figure)i), json_real(value));
        }
    }
    return object;
}

int ledger_set_lanes(struct ledger *ledger, uint64_t launch, const struct ledger_lane *lanes, size_t count,
                     struct error *err) {
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(list, lane_json(&lanes[i]));
    }
    json_t *object = json_pack("{s:I, s:o}", "launch", (json_int_t)launch, "devices", list);
    char *text = json_dumps(object, JSON_COMPACT);
    int status = text == NULL ? error_set(err, STATUS_INTERNAL, "out of memory for the figures of devices")
                              : ledger_set_note(ledger, LANES_NOTE, text, err);
    free(text);
    json_decref(object);
    return status;
}

static void read_lane(struct ledger_lane *lane, const json_t *object) {
    const char *name = json_string_value(json_object_get(object, "name"));
    *lane = (struct ledger_lane){.batches = (uint64_t)json_integer_value(json_object_get(object, "batches")),
                                 .tokens_per_second =
                                     json_number_value(json_object_get(object, "tokens_per_second"))};
    snprintf(lane->name, sizeof lane->name, "%s", name == NULL ? "" : name);
    for (int i = 0; i < LEDGER_FIGURES; i++) {
        const json_t *value = json_object_get(object, ledger_figure_name((enum ledger_figure)i));
        ledger_device_set(&lane->figures, (enum ledger_figure)i,
                          value == NULL ? (double)NAN : json_number_value(value));
    }
}

int ledger_lanes(struct ledger *ledger, uint64_t launch, struct ledger_lane *lanes, size_t *count,
                 struct error *err) {
    struct buffer note = {0};
    struct error ignored;
    json_t *root = NULL;
    bool found;
    *count = 0;
    int status;
    TRY_TO(done, status = ledger_note(ledger, LANES_NOTE, &note, &found, err));
    if (!found || json_parse(&root, note.data, note.size, "the figures of devices", &ignored) != STATUS_OK) {
        goto done;
    }
    const json_t *list = json_object_get(root, "devices");
    if ((uint64_t)json_integer_value(json_object_get(root, "launch")) == launch) {
        for (; *count < json_array_size(list) && *count < LEDGER_LANES; *count += 1) {
            read_lane(&lanes[*count], json_array_get(list, *count));
        }
    }
done:
    json_decref(root);
    buffer_destroy(&note);
    return status;
}
