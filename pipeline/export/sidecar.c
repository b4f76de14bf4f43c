// SPDX-License-Identifier: MIT
#include "export/sidecar.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "checkpoints/layer.h"
#include "export/format.h"

static json_t *number(uint64_t value) {
    return json_integer((json_int_t)value);
}

// An attribute of the shards as they name it, or null.
static json_t *attribute(const struct export_plan *plan, const char *name) {
    json_t *value = json_object_get(plan->attributes, name);
    return value == NULL ? json_null() : json_incref(value);
}

static json_t *describe_counts(const struct export_plan *plan, const struct export_report *report) {
    uint64_t tokens = 0;
    uint64_t truncated = 0;
    uint64_t missing = 0;
    uint64_t shorter = 0;
    for (size_t i = 0; i < plan->split_count; i++) {
        tokens += plan->splits[i].counts.tokens;
        truncated += plan->splits[i].truncated;
        missing += plan->splits[i].missing_steps;
        shorter += plan->splits[i].short_of_steps;
    }
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "problems",
                     number(report->problems), "rows", number(report->rows), "tokens", number(tokens),
                     "failed", number(report->failed), "skipped", number(report->skipped), "remaining",
                     number(report->remaining), "truncated", number(truncated), "missing_steps",
                     number(missing), "problems_with_missing_steps", number(shorter), "saturated",
                     number(report->saturated));
}

static json_t *describe_layers(const struct export_plan *plan, const struct export_figures *figures) {
    json_t *list = json_array();
    for (size_t i = 0; i < plan->layer_count; i++) {
        char name[LAYER_NAME];
        char hook[LAYER_NAME];
        char text[LAYER_TEXT];
        size_t layer = plan->layers[i];
        bool in_tuple = !layer_is_pre_norm(layer, plan->model_layers);
        layer_name(name, layer, plan->model_layers);
        layer_hook(hook, layer, plan->model_layers);
        export_layer_text(layer, plan->model_layers, text, sizeof text);
        json_t *entry = json_pack("{s:s, s:o, s:s, s:o}", "name", name, "index",
                                  in_tuple ? number(layer) : json_string("pre_norm"), "layer", text,
                                  "statistics", export_figures_json(figures, NULL, i));
        if (entry != NULL) {
            json_object_set_new(entry, "negative_index",
                                in_tuple
                                    ? json_integer((json_int_t)layer - (json_int_t)plan->model_layers - 1)
                                    : json_null());
            json_object_set_new(entry, "block", number(layer_block(layer, plan->model_layers)));
            json_object_set_new(entry, "blocks", number(plan->model_layers));
            json_object_set_new(entry, "after_final_norm", json_boolean(layer == plan->model_layers));
            json_object_set_new(entry, "hook", hook[0] == 0 ? json_null() : json_string(hook));
        }
        if (json_array_append_new(list, entry) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *describe_splits(const struct export_plan *plan, const struct export_figures *figures) {
    json_t *list = json_array();
    for (size_t i = 0; i < plan->split_count; i++) {
        const struct export_split *split = &plan->splits[i];
        json_t *layers = json_object();
        for (size_t k = 0; k < plan->layer_count && plan->split_count > 1; k++) {
            char name[LAYER_NAME];
            layer_name(name, plan->layers[k], plan->model_layers);
            json_object_set_new(layers, name, export_figures_json(figures, split, k));
        }
        json_t *entry = json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "name", split->name, "problems",
                                  number(split->counts.problems), "rows", number(split->counts.rows),
                                  "tokens", number(split->counts.tokens), "truncated",
                                  number(split->truncated), "missing_steps", number(split->missing_steps),
                                  "statistics", plan->split_count > 1 ? layers : json_null());
        if (plan->split_count <= 1) {
            json_decref(layers);
        }
        if (json_array_append_new(list, entry) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *describe_rule(const struct split_rule *rule) {
    if (rule->kind == SPLIT_NONE) {
        return json_null();
    }
    if (rule->kind == SPLIT_SOURCE) {
        return json_pack("{s:s, s:s}", "by", "column", "column", rule->column);
    }
    json_t *fractions = json_object();
    for (size_t i = 0; i < rule->count; i++) {
        json_object_set_new(fractions, rule->names[i], json_real(rule->fractions[i]));
    }
    return json_pack("{s:s, s:s, s:o, s:o}", "by",
                     "hash of the id; the source's test problems stay in 'test'", "column", rule->column,
                     "seed", number(rule->seed), "fractions", fractions);
}

static json_t *describe_shards(const struct export_plan *plan) {
    json_t *list = json_array();
    for (size_t i = 0; i < plan->shard_count; i++) {
        const struct shard_sealed *sealed = &plan->shards[i].sealed;
        json_t *entry = json_pack("{s:s, s:s, s:o}", "name", sealed->name, "sha256", sealed->sha256, "rows",
                                  number(sealed->rows));
        if (entry != NULL && plan->list.parts > 0) {
            json_object_set_new(entry, "part", number(plan->shards[i].member));
        }
        if (json_array_append_new(list, entry) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

// Of a set: its parts in their order; null of a run by itself.
static json_t *describe_parts(const struct export_plan *plan) {
    json_t *list = plan->list.parts > 0 ? json_array() : json_null();
    for (size_t i = 0; plan->list.parts > 0 && i < plan->list.count; i++) {
        const struct run_list_member *member = &plan->list.members[i];
        json_t *folder = json_text_if(member->folder[0] != 0, member->folder);
        if (json_array_append_new(list, json_pack("{s:o, s:o, s:b}", "part", number(i), "run", folder,
                                                  "complete", (int)plan->complete[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static json_t *describe_order(const struct export_request *request) {
    return request->shuffle_rows
               ? json_pack("{s:s, s:o}", "kind", "shuffled rows", "seed", number(request->row_seed))
           : request->shuffle
               ? json_pack("{s:s, s:o}", "kind", "shuffled", "seed", number(request->shuffle_seed))
               : json_pack("{s:s}", "kind", "query");
}

static void count_files(const json_t *files, struct export_report *report) {
    size_t i;
    json_t *file;
    json_array_foreach(files, i, file) {
        report->files++;
        report->bytes += (uint64_t)json_integer_value(json_object_get(file, "bytes"));
    }
}

static json_t *describe(const struct sidecar_source *source, const struct export_report *report) {
    const struct export_plan *plan = source->plan;
    const struct export_request *request = source->request;
    json_t *order = describe_order(request);
    json_t *model =
        json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "name", attribute(plan, "model"), "path",
                  attribute(plan, "model_path"), "type", attribute(plan, "model_type"), "fingerprint",
                  attribute(plan, "model_fingerprint"), "adapter", attribute(plan, "adapter"),
                  "adapter_fingerprint", attribute(plan, "adapter_fingerprint"));
    json_t *steps =
        json_pack("{s:o, s:o}", "from", attribute(plan, "steps_kind"), "value", attribute(plan, "steps"));
    json_t *dtype = json_pack("{s:s, s:s, s:o}", "stored", dtype_name(plan->stored), "exported",
                              dtype_name(plan->dtype), "computed", attribute(plan, "compute_dtype"));
    return json_pack(
        "{s:i, s:s, s:s, s:o, s:b, s:o, s:o, s:{s:o}, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:O, "
        "s:o, "
        "s:o, s:o, s:o, s:O}",
        "export_version", 1, "format", request->format->name, "program", request->program, "run",
        json_text_if(true, plan->list.name), "complete", (int)plan->finished, "counts",
        describe_counts(plan, report), "model", model, "tokenizer", "fingerprint",
        attribute(plan, "tokenizer_fingerprint"), "problems_sha256", attribute(plan, "problems_sha256"),
        "template", attribute(plan, "template"), "steps", steps, "pooling", attribute(plan, "pooling"),
        "dtype", dtype, "hidden", number(plan->hidden), "layers", describe_layers(plan, source->figures),
        "order", order, "normalization", normalization_json(source->normalization), "split",
        describe_rule(&request->split), "left_out", plan->left_out, "splits",
        describe_splits(plan, source->figures), "parts", describe_parts(plan), "shards",
        describe_shards(plan), "warnings", attribute(plan, "warnings"), "identity", plan->identity);
}

static int write_document(const json_t *document, const char *folder, struct export_report *report,
                          struct error *err) {
    char path[PATH_SIZE];
    TRY(path_join(path, sizeof path, folder, "export.json", err));
    char *text = json_dumps(document, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    if (text == NULL) {
        return error_set(err, STATUS_INTERNAL, "out of memory: export.json");
    }
    size_t size = strlen(text);
    text[size] = '\n'; // in place of the closing 0: the file ends with a newline
    int status = file_write_atomic(path, text, size + 1, err);
    report->files++;
    report->bytes += size + 1;
    free(text);
    return status;
}

int export_sidecar_write(const struct sidecar_source *source, const char *folder,
                         struct export_report *report, struct error *err) {
    json_t *files = json_array();
    json_t *document = NULL;
    int status;
    TRY_TO(done, status = export_progress_describe(source->progress, "", files, err));
    count_files(files, report);
    document = describe(source, report);
    if (document == NULL || json_object_set(document, "files", files) != 0) {
        status = error_set(err, STATUS_INTERNAL, "out of memory: export.json");
        goto done;
    }
    json_object_set_new(document, "request_sha256", json_string(source->key));
    status = write_document(document, folder, report, err);
done:
    json_decref(document);
    json_decref(files);
    return status;
}

static json_t *read_document(const char *folder) {
    char path[PATH_SIZE];
    struct error ignored;
    return path_join(path, sizeof path, folder, "export.json", &ignored) == STATUS_OK
               ? json_load_file(path, 0, NULL)
               : NULL;
}

bool export_sidecar_key(const char *folder, char key[DIGEST_HEX]) {
    json_t *document = read_document(folder);
    const char *found = json_string_value(json_object_get(document, "request_sha256"));
    bool good = found != NULL && strlen(found) < DIGEST_HEX;
    snprintf(key, DIGEST_HEX, "%s", good ? found : "");
    json_decref(document);
    return good;
}

int export_sidecar_check(const char *folder, struct error *err) {
    json_t *document = read_document(folder);
    int status = STATUS_OK;
    size_t i;
    json_t *file;
    json_array_foreach(json_object_get(document, "files"), i, file) {
        const char *below = json_string_value(json_object_get(file, "path"));
        if (status == STATUS_OK && !export_progress_has(folder, file)) {
            status = error_set(err, STATUS_DATA,
                               "%s is damaged: %s is missing or has another size than when it was exported; "
                               "remove the folder to export again",
                               folder, below == NULL ? "a file" : below);
        }
    }
    json_decref(document);
    return status;
}

bool export_sidecar_lists(const char *folder, const char *ending) {
    json_t *document = read_document(folder);
    bool found = false;
    size_t i;
    json_t *file;
    json_array_foreach(json_object_get(document, "files"), i, file) {
        const char *below = json_string_value(json_object_get(file, "path"));
        size_t length = below == NULL ? 0 : strlen(below);
        found = found || (length >= strlen(ending) && strcmp(below + length - strlen(ending), ending) == 0);
    }
    json_decref(document);
    return found;
}
