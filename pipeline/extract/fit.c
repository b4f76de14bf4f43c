#include "extract/fit.h"

#include "base/size.h"

static int plan_for(const struct inputs *inputs, const struct model_limits *limits, size_t tokens,
                    struct device_plan *plan, struct error *err) {
    struct model_limits smaller = *limits;
    smaller.tokens = tokens;
    smaller.texts = size_min(limits->texts, tokens);
    smaller.rows = size_min(limits->rows, tokens);
    *plan = (struct device_plan){0};
    int status = model_plan(inputs->model, inputs->device, &smaller, plan, err);
    return status == STATUS_OK ? device_check_fits(inputs->device, plan, err) : status;
}

// The largest budget that fits between the longest text's tokens and the job's, by halving; 0 when none does.
// In whole units: the run would round another one up.
static int largest_tokens(const struct inputs *inputs, const struct model_limits *limits, size_t *tokens,
                          struct error *err) {
    struct device_plan plan;
    size_t unit = inputs_token_unit(inputs);
    size_t least = (limits->longest + unit - 1) / unit;
    size_t low = least - 1;              // fits, once it is no longer this
    size_t high = limits->tokens / unit; // does not
    int status = STATUS_OK;
    while (high - low > 1 && (status == STATUS_OK || status == STATUS_DEVICE)) {
        // The least budget first: when that does not fit, nothing does.
        size_t middle = low < least ? least : low + (high - low) / 2;
        status = plan_for(inputs, limits, middle * unit, &plan, err);
        low = status == STATUS_OK ? middle : low;
        high = status == STATUS_OK ? high : middle;
    }
    *tokens = low < least ? 0 : low * unit;
    return status == STATUS_DEVICE ? STATUS_OK : status;
}

int fit_plan(const struct inputs *inputs, const struct model_limits *limits, struct device_plan *plan,
             struct error *err) {
    struct error table;
    size_t tokens;
    int refused = plan_for(inputs, limits, limits->tokens, plan, &table);
    if (refused != STATUS_DEVICE) {
        *err = table;
        return refused;
    }
    int status = largest_tokens(inputs, limits, &tokens, err);
    if (status != STATUS_OK) {
        return status;
    }
    if (tokens == 0) {
        return error_set(err, refused, "%.700s; not even a batch of one text of %zu tokens would fit",
                         table.message, limits->longest);
    }
    return error_set(err, refused, "%.700s; the largest batch.tokens that would fit is %zu", table.message,
                     tokens);
}
