// SPDX-License-Identifier: MIT
// Fuzz target: bitsandbytes' quant_state. What is accepted must be a format that a layout can be made of.
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "model/quant_state.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
size_t fuzz_accepted; // inputs that were not refused: see fuzz_replay.c

static void demand(int holds) {
    if (!holds) {
        abort();
    }
}

static void demand_run(size_t run) {
    demand(run >= 32 && run <= 4096 && (run & (run - 1)) == 0);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    struct error err = {0};
    struct quant_state state;
    if (quant_state_parse(&state, (const char *)data, size, "nf4", &err) != STATUS_OK) {
        demand(err.status == STATUS_DATA);
        return 0;
    }
    fuzz_accepted++;
    demand(state.rows > 0 && state.columns > 0);
    demand_run(state.lookups.run);
    if (state.lookups.is_nested) {
        demand_run(state.lookups.nested);
    }
    demand(isfinite(state.lookups.offset));
    struct weight_format format = {.kind = WEIGHT_LOOKUP, .lookups = state.lookups};
    struct weight_layout layout;
    if (weight_layout(&format, state.rows, state.columns, &layout)) {
        demand(layout.parts[PART_CODES].bytes >= state.rows * state.columns / 2);
    }
    return 0;
}
