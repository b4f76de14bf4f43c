// SPDX-License-Identifier: MIT
#include "start/slices.h"

#include <inttypes.h>

#include "base/amount.h"
#include "model/footprint.h"

int slices_describe(const struct inputs *inputs, const struct model_limits *limits, struct buffer *text,
                    struct error *err) {
    const struct model_config *config = model_config_of(inputs->model);
    enum dtype dtype = inputs->job.dtype;
    struct footprint_batch batch;
    char kept[AMOUNT_TEXT];
    char residual[AMOUNT_TEXT];
    size_t longest = model_longest_own(limits);
    if (longest <= limits->tokens) {
        return STATUS_OK;
    }
    footprint_of_batch(&batch, config, dtype, limits, false);
    double stream = (double)longest * (double)footprint_residual(config, dtype);
    uint64_t count = inputs->survey.long_texts + inputs->retry.long_texts;
    return buffer_printf(
        text, err,
        "%" PRIu64 " %s longer than a batch: the longest, of %zu tokens, runs in %zu slices, "
        "with %s of keys and values of a block at a time and %s of residual stream",
        count, count == 1 ? "text is" : "texts are", longest, model_batch_members(limits, longest),
        amount_text((double)batch.keys_values, kept), amount_text(stream, residual));
}
