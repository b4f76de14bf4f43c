// SPDX-License-Identifier: MIT
// Fuzz target: adapter_config.json. What is accepted has a rank and a finite scale for every module, or says
// for which it has none.
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "model/adapter_config.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
size_t fuzz_accepted; // inputs that were not refused: see fuzz_replay.c

static void demand(int holds) {
    if (!holds) {
        abort();
    }
}

static void ask(const struct adapter_config *config, const char *module, size_t block) {
    struct error err = {0};
    size_t rank = 0;
    float scale = NAN;
    if (adapter_config_scale(config, module, &rank, &scale, &err) == STATUS_OK) {
        demand(rank > 0 && isfinite(scale));
    } else {
        demand(err.status == STATUS_DATA);
    }
    demand(adapter_config_target(config, module, block) <= ADAPTER_MAYBE);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    struct error err = {0};
    struct adapter_config config = {0};
    int status = adapter_config_parse(&config, (const char *)data, size, "fuzz", &err);
    if (status == STATUS_OK) {
        const char *name;
        fuzz_accepted++;
        ask(&config, "model.layers.0.self_attn.q_proj", 0);
        ask(&config, "layers.12.mlp.down_proj", 12);
        for (size_t i = 0; (name = adapter_config_target_name(&config, i)) != NULL; i++) {
            demand(adapter_config_names(name, name));
        }
        for (size_t i = 0; (name = adapter_config_saved_name(&config, i)) != NULL; i++) {
            ask(&config, name, i);
        }
    } else {
        demand(status == STATUS_DATA && err.status == STATUS_DATA);
    }
    adapter_config_destroy(&config);
    return 0;
}
