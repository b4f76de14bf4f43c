// SPDX-License-Identifier: MIT
#include "start/fit.h"

#include "base/amount.h"
#include "base/size.h"
#include "kernels/shapes.h"
#include "model/footprint.h"
#include "start/choices.h"
#include "start/placement.h"

static int plan_for(const struct inputs *inputs, const struct model_limits *limits, size_t tokens,
                    struct model_plan *plan, struct error *err) {
    struct model_limits smaller = *limits;
    smaller.tokens = inputs_shape_tokens(inputs_token_unit(inputs), tokens, model_longest_own(limits));
    smaller.texts = size_min(limits->texts, tokens);
    if (limits->longest_own == 0) { // otherwise rows may lie in what is not computed again
        smaller.rows = size_min(limits->rows, size_max(tokens, limits->longest));
    }
    inputs_set_group(inputs, &smaller, limits->group);
    TRY(model_plan(inputs->model, &smaller, plan, err));
    return model_check_fits(inputs->model, plan, err);
}

// The largest budget that fits, of so many units or more and of less than `most`, by halving; 0 when none
// does.
static int search(const struct inputs *inputs, const struct model_limits *limits, size_t least, size_t most,
                  size_t *tokens, struct error *err) {
    struct model_plan plan;
    size_t unit = inputs_token_unit(inputs);
    size_t low = least - 1; // fits, once it is no longer this
    size_t high = most;     // does not
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

// The largest budget that fits below the job's; 0 when none does. In whole units: the run would round another
// one up. One with room for the longest text, or where there is none such, one that takes that in slices.
static int largest_tokens(const struct inputs *inputs, const struct model_limits *limits, size_t *tokens,
                          struct error *err) {
    size_t unit = inputs_token_unit(inputs);
    size_t most = limits->tokens / unit;
    size_t longest = model_longest_own(limits);
    size_t whole = (longest + unit - 1) / unit;
    size_t sliced = (size_min(longest, DEVICE_SLICE) + unit - 1) / unit;
    *tokens = 0;
    if (whole < most) {
        TRY(search(inputs, limits, whole, most, tokens, err));
    }
    if (*tokens == 0 && sliced < size_min(whole, most)) {
        TRY(search(inputs, limits, sliced, size_min(whole, most), tokens, err));
    }
    return STATUS_OK;
}

// Whether the weights of a plan, or activations and scratch, would fit without the rest.
static bool fits_part(const struct inputs *inputs, const struct model_plan *plan, bool weights, bool batch) {
    struct error ignored;
    const struct model_plan part = model_plan_part(plan, weights, batch);
    return model_check_fits(inputs->model, &part, &ignored) == STATUS_OK;
}

static const char *keeper_of(const struct inputs *inputs) {
    return inputs->device.host_staging ? "model.memory_reserve_gb keeps"
           : inputs->job.memory_gb > 0 ? "run.memory_gb keeps"
                                       : "a limit of the control group keeps";
}

static int advise_weights(struct buffer *out, const struct inputs *inputs, struct error *err) {
    const char *dtype = inputs->job.dtype == DTYPE_F32 ? "; model.dtype: bfloat16 needs half" : "";
    size_t blocks = inputs_blocks(inputs);
    if (model_streamed(inputs->model, blocks) > 0) {
        return buffer_printf(
            out, err,
            "; the weights that stay, the block that is computed and what is read ahead of it "
            "need more than is free%s",
            dtype);
    }
    return buffer_printf(
        out, err,
        "; the weights of %zu blocks alone need more than is free (blocks above the highest of "
        "latents.layers are not loaded%s)",
        blocks, dtype);
}

// What takes too much, when that is no matter of the batch alone, and what to change.
static int advise(struct buffer *out, const struct inputs *inputs, const struct model_limits *limits,
                  const struct model_plan *plan, struct error *err) {
    size_t blocks = inputs_blocks(inputs);
    if (!model_host_fits(inputs->model, plan) && model_placed_at(inputs->model) == MODEL_WEIGHTS_HOST) {
        return buffer_printf(out, err,
                             "; %zu of %zu blocks, which would come from the host's memory, do not fit there",
                             model_streamed(inputs->model, blocks), blocks);
    }
    if (!model_host_fits(inputs->model, plan) || fits_part(inputs, plan, true, true)) {
        return buffer_printf(out, err,
                             "; staging does not fit: %zu layers of %zu rows in %s for each of %zu batches. "
                             "Fewer latents.layers or a smaller batch.tokens%s need less",
                             limits->layer_count, limits->rows, dtype_name(limits->stored), limits->slots,
                             limits->stored == DTYPE_F32 ? " or latents.dtype: float16" : "");
    }
    if (!fits_part(inputs, plan, false, false)) {
        return buffer_printf(
            out, err, "; not even without a model: other programs use the memory, or %s too much of it",
            keeper_of(inputs));
    }
    return fits_part(inputs, plan, true, false) ? STATUS_OK : advise_weights(out, inputs, err);
}

// What would fit with the weights in 4 bits.
static int advise_quantising(struct buffer *out, const struct inputs *inputs,
                             const struct model_limits *limits, struct error *err) {
    static const struct {
        enum model_quantize how;
        const char *name;
    } ways[] = {{MODEL_QUANTIZE_NF4, "nf4"}, {MODEL_QUANTIZE_NF4_DOUBLE, "nf4_double"}};
    if (model_is_packed(inputs->model) || !footprint_can_quantise(model_config_of(inputs->model))) {
        return STATUS_OK;
    }
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        struct model_plan plan;
        struct error ignored;
        char amount[AMOUNT_TEXT];
        TRY(model_plan_quantised(inputs->model, limits, ways[i].how, &plan, err));
        if (model_check_fits(inputs->model, &plan, &ignored) == STATUS_OK) {
            return buffer_printf(
                out, err, "; a new run with model.quantize: %s would fit: its weights take %s", ways[i].name,
                amount_text((double)model_plan_bytes(&plan, DEVICE_WEIGHTS), amount));
        }
    }
    return STATUS_OK;
}

static double device_bytes(const struct model_plan *plan) {
    return (double)model_plan_bytes(plan, DEVICE_WEIGHTS) +
           (double)model_plan_bytes(plan, DEVICE_ACTIVATIONS) +
           (double)model_plan_bytes(plan, DEVICE_SCRATCH);
}

// What packed weights would take that are expanded at load and need not be.
static int advise_keeping(struct buffer *out, const struct inputs *inputs, const struct model_limits *limits,
                          const struct model_plan *plan, struct error *err) {
    struct model_plan kept;
    struct error ignored;
    char less[AMOUNT_TEXT];
    char amount[AMOUNT_TEXT];
    if (inputs->job.expand != JOB_EXPAND_LOAD) {
        return STATUS_OK;
    }
    TRY(model_plan_kept(inputs->model, limits, &kept, err));
    if (device_bytes(&kept) >= device_bytes(plan)) {
        return STATUS_OK;
    }
    return buffer_printf(out, err, "; model.expand: matmul needs %s in place of %s%s",
                         amount_text(device_bytes(&kept), less), amount_text(device_bytes(plan), amount),
                         model_check_fits(inputs->model, &kept, &ignored) == STATUS_OK ? ", which would fit"
                                                                                       : "");
}

// What would run with blocks that stream.
static int advise_streaming(struct buffer *out, const struct inputs *inputs,
                            const struct model_limits *limits, struct error *err) {
    static const struct {
        enum job_weights weights;
        const char *name;
        const char *from;
    } ways[] = {{JOB_WEIGHTS_HOST, "host", "the host's memory"}, {JOB_WEIGHTS_DISK, "disk", "their files"}};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        struct error refusal;
        struct placement_found found;
        if (inputs->job.weights == JOB_WEIGHTS_DISK || inputs->job.weights == (int)ways[i].weights) {
            continue; // that is what does not fit
        }
        int status = placement_foresee(inputs, limits, ways[i].weights, &found, &refusal);
        if (status != STATUS_OK && status != STATUS_DEVICE) {
            *err = refusal;
            return status;
        }
        if (status == STATUS_OK) {
            TRY(buffer_printf(
                out, err,
                "; model.weights: %s would run: %zu of %zu blocks stay, the others come from %s "
                "for every group of batches",
                ways[i].name, found.resident, inputs_blocks(inputs), ways[i].from));
        }
    }
    return STATUS_OK;
}

static int advise_all(struct buffer *out, const struct inputs *inputs, const struct model_limits *limits,
                      const struct model_plan *plan, size_t tokens, struct error *err) {
    if (tokens == 0) {
        TRY(buffer_printf(out, err, "; not even a batch of one text of %zu tokens would fit",
                          model_longest_own(limits)));
    } else {
        TRY(buffer_printf(out, err, "; the largest batch.tokens that would fit is %zu", tokens));
    }
    TRY(advise(out, inputs, limits, plan, err));
    if (limits->group > 1) {
        TRY(buffer_printf(out, err, "; a smaller batch.group needs less"));
    }
    TRY(advise_quantising(out, inputs, limits, err));
    TRY(advise_keeping(out, inputs, limits, plan, err));
    return advise_streaming(out, inputs, limits, err);
}

// One line that says what is wrong and what to change; behind it a table of what would run, and how fast.
static int refuse_plan(const struct inputs *inputs, const struct model_limits *limits,
                       const struct model_plan *plan, const struct error *table, struct error *err) {
    struct buffer advice = {0};
    struct buffer speeds = {0};
    size_t tokens;
    int status;
    TRY_TO(done, status = largest_tokens(inputs, limits, &tokens, err));
    TRY_TO(done, status = advise_all(&advice, inputs, limits, plan, tokens, err));
    TRY_TO(done, status = choices_describe(&speeds, inputs, limits, tokens, err));
    status = error_set_lines(err, table->status, "%.600s%.760s%.680s", table->message, advice.data,
                             speeds.size > 0 ? speeds.data : "");
done:
    buffer_destroy(&speeds);
    buffer_destroy(&advice);
    return status;
}

int fit_on_device(const struct inputs *inputs, struct model_limits *limits, struct model_plan *plan,
                  struct error *err) {
    struct error table;
    int status = placement_choose(inputs, limits, plan, &table);
    if (status == STATUS_DEVICE) {
        return refuse_plan(inputs, limits, plan, &table, err);
    }
    if (status == STATUS_OK) {
        status = model_check_matmuls(inputs->model, limits, &table);
    }
    if (status == STATUS_DEVICE) {
        return error_set(err, status, "%.1600s; model.device: cpu computes matmuls of any size",
                         table.message);
    }
    *err = table;
    return status;
}
