// SPDX-License-Identifier: MIT
// What `strata plan --json` prints of the ways.
#include "commands/plan_ways.h"

static json_t *whole(uint64_t number) {
    return json_integer(number > INT64_MAX ? INT64_MAX : (json_int_t)number);
}

// Takes the item; NULL, with the list gone, where memory is out.
static json_t *append(json_t *list, json_t *item) {
    if (json_array_append_new(list, item) == 0) {
        return list;
    }
    json_decref(list);
    return NULL;
}

// Null where it is not known.
static json_t *rate(double value) {
    return value > 0 ? json_real(value) : json_null();
}

static json_t *describe_machine(const struct plan_machine *machine) {
    const struct forecast_machine *m = &machine->figures;
    return json_pack("{s:s, s:b, s:o, s:b, s:o, s:o, s:f, s:o, s:o, s:o, s:o, s:b, s:o, s:o, s:s}", "name",
                     machine->name, "here", machine->is_here, "card",
                     machine->card == NULL ? json_null() : json_string(machine->card->name),
                     "card_is_guessed", machine->card_is_guessed, "memory", whole(m->memory), "in_use",
                     whole(m->in_use), "target", m->target, "reserve", whole(m->reserve),
                     "operations_per_second", rate(m->rate), "pcie_bytes_per_second", rate(m->link),
                     "disk_bytes_per_second", rate(m->disk), "disk_is_assumed", machine->disk_is_assumed,
                     "conversion_bytes_per_second", rate(m->conversion), "host_memory",
                     m->host_memory > 0 ? whole(m->host_memory) : json_null(), "note", machine->note);
}

static json_t *describe_memory(const struct plan_way *way) {
    const struct forecast *f = &way->forecast;
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "blocks",
                     whole(f->resident_bytes), "slots", whole(f->streaming_bytes), "embedding",
                     whole(way->footprint.embedding), "final_norm", whole(way->footprint.final_norm),
                     "expansion", whole(way->footprint.expansion), "activations", whole(f->batch.activations),
                     "keys_and_values", whole(f->batch.keys_values), "head", whole(f->head), "residuals",
                     whole(f->residuals), "scratch", whole(f->batch.scratch), "staging",
                     whole(f->batch.staging), "host", whole(f->host));
}

static json_t *describe_layers(const struct footprint *footprint) {
    json_t *list = json_array();
    for (size_t i = 0; i < footprint->blocks && list != NULL; i++) {
        list = append(list, json_pack("{s:o, s:o}", "held", whole(footprint->block[i].held), "file",
                                      whole(footprint->block[i].file)));
    }
    return list;
}

static json_t *describe_way(const struct plan_ways *ways, const struct plan_way *way) {
    const struct forecast *f = &way->forecast;
    return json_pack("{s:s, s:b, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "way",
                     way->name, "fits", f->fits, "limit", forecast_bound_name(f->bound), "budget",
                     whole(f->budget), "needed", whole(f->used), "resident_blocks", whole(f->resident),
                     "blocks", whole(way->footprint.blocks), "group_tokens", whole(f->group_tokens),
                     "hiding_tokens", whole(f->hiding_tokens), "largest_batch_tokens", whole(f->most_tokens),
                     "tokens_per_second", rate(f->tokens_per_second), "seconds",
                     ways->work->has_problems ? rate(f->seconds) : json_null(), "memory",
                     describe_memory(way), "layers", describe_layers(&way->footprint));
}

static json_t *append_several(json_t *list, const struct plan_way *way, int gpus, const char *split,
                              const struct forecast_several *several) {
    return list == NULL
               ? NULL
               : append(list,
                        json_pack("{s:i, s:s, s:s, s:b, s:o, s:o, s:o, s:o}", "gpus", gpus, "way", way->name,
                                  "split", split, "fits", several->fits, "needed", whole(several->used),
                                  "blocks", whole(several->blocks), "tokens_per_second",
                                  rate(several->tokens_per_second), "seconds", rate(several->seconds)));
}

// Of each number of GPUs, by model.split.
static json_t *describe_several(const struct plan_ways *ways) {
    json_t *list = json_array();
    for (int index = 0, gpus; (gpus = plan_ways_gpus(ways, index)) != 0; index++) {
        for (size_t i = 0; i < ways->count; i++) {
            const struct plan_way *way = &ways->way[i];
            struct forecast_several several;
            for (int split = JOB_SPLIT_BATCHES; split <= JOB_SPLIT_LAYERS; split++) {
                if (plan_ways_several(ways, way, (enum job_split)split, (size_t)gpus, &several)) {
                    list = append_several(list, way, gpus, job_split_name((enum job_split)split), &several);
                }
            }
        }
    }
    return list;
}

static json_t *describe_account(const struct generation_account *account) {
    return json_pack("{s:f, s:f, s:o}", "layer_bytes", account->weights, "keys_and_values_bytes",
                     account->keys_values, "layers", whole(account->layers));
}

static json_t *describe_generation(const struct plan_ways *ways) {
    const struct model_config *config = ways->work->config;
    if (ways->options->context == 0) {
        return json_null();
    }
    return json_pack("{s:o, s:o, s:o, s:f, s:f, s:o, s:o, s:o}", "context", whole(ways->options->context),
                     "published", describe_account(&ways->generation.published), "actual",
                     describe_account(&ways->generation.actual), "own_keys_and_values_bytes",
                     ways->generation.own, "own_residual_bytes", ways->generation.own_residual, "parameters",
                     whole(footprint_parameters(config)), "bytes_16_bit",
                     whole(footprint_of_all(config, MODEL_QUANTIZE_NONE)), "bytes_4_bit",
                     whole(footprint_of_all(config, MODEL_QUANTIZE_NF4)));
}

json_t *plan_ways_json(const struct plan_ways *ways) {
    const struct plan_work *work = ways->work;
    json_t *list = json_array();
    for (size_t i = 0; i < ways->count && list != NULL; i++) {
        list = append(list, describe_way(ways, &ways->way[i]));
    }
    return json_pack(
        "{s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:i, s:o, s:o}", "plan_version", 1, "parameters",
        whole(footprint_parameters(work->config)), "active_parameters",
        whole(footprint_active_parameters(work->config)), "batch_tokens", whole(work->limits->tokens),
        "tokens", work->has_problems ? whole(work->work.tokens) : json_null(), "fill",
        json_real(work->work.fill), "machine", describe_machine(ways->machine), "ways", list, "gpus",
        ways->options->gpus, "several", describe_several(ways), "generation", describe_generation(ways));
}
