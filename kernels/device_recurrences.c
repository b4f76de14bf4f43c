// SPDX-License-Identifier: MIT
// The operations of operations.h that carry a state along a text, as device_operations.c has the others:
// cheap checks of shapes, then the back end.
#include "base/size.h"
#include "kernels/back_end.h"
#include "kernels/device_texts.h"
#include "kernels/operations.h"

static int refuse(struct error *err, const char *operation, const char *why) {
    return error_set(err, STATUS_INTERNAL, "%s: %s", operation, why);
}

// NULL where such texts can be computed with this state, or without one.
static const char *texts_fault(const struct device_texts *texts, const void *state) {
    const char *fault = texts_state_fault(texts);
    if (fault != NULL) {
        return fault;
    }
    if (state == NULL) {
        return texts->before > 0 ? "the state is missing" : NULL;
    }
    return texts->count != 1 || texts->host_starts[0] != 0 || !texts_slice_begins(texts)
               ? "a slice is of one text and begins at a multiple of a slice"
               : NULL;
}

// ---- delta nets ----

// NULL where the sizes can be computed.
static const char *delta_net_fault(const struct device_delta_net *net) {
    if (net->key_heads == 0 || net->value_heads == 0 || net->value_heads % net->key_heads != 0) {
        return "key_heads does not divide value_heads";
    }
    if (net->key_dim == 0 || net->value_dim == 0 || net->taps == 0) {
        return "a size is 0";
    }
    return NULL;
}

bool device_delta_net_scratch(const struct device *device, const struct device_delta_net *net, size_t tokens,
                              size_t *bytes) {
    return delta_net_fault(net) == NULL && device->ops->delta_net_scratch(device, net, tokens, bytes);
}

int device_delta_net(struct device *device, void *out, const void *in, const struct device_delta_net *net,
                     struct device_texts texts, void *state, void *scratch, struct error *err) {
    if (texts.count == 0) {
        return STATUS_OK;
    }
    const char *fault = delta_net_fault(net);
    if (fault == NULL &&
        (out == NULL || in == NULL || texts.starts == NULL || texts.host_starts == NULL ||
         net->convolution == NULL || net->decay == NULL || net->step_bias == NULL || net->norm == NULL)) {
        fault = "a buffer is missing";
    }
    fault = fault != NULL ? fault : texts_fault(&texts, state);
    size_t bytes = 0;
    if (fault == NULL &&
        (!device_delta_net_scratch(device, net, (size_t)texts.host_starts[texts.count], &bytes) ||
         (bytes > 0 && scratch == NULL))) {
        fault = "scratch is missing";
    }
    return fault != NULL ? refuse(err, "delta_net", fault)
                         : device->ops->delta_net(device, out, in, net, texts, state, scratch, err);
}

// ---- state spaces ----

// NULL where the sizes can be computed.
static const char *state_space_fault(const struct device_state_space *space) {
    size_t out;
    if (space->heads == 0 || space->groups == 0 || space->heads % space->groups != 0) {
        return "groups does not divide heads";
    }
    if (space->head_dim == 0 || space->state == 0 || space->taps == 0 || space->taps > DEVICE_TAPS_MOST) {
        return "a size is 0, or there are too many taps";
    }
    if (!size_mul(space->heads, space->head_dim, &out) || space->norm_groups == 0 ||
        out % space->norm_groups != 0) {
        return "norm_groups does not divide heads * head_dim";
    }
    return space->step_least <= space->step_most ? NULL : "steps have no bounds"; // NaN neither
}

bool device_state_space_scratch(const struct device *device, const struct device_state_space *space,
                                size_t tokens, size_t *bytes) {
    return state_space_fault(space) == NULL && device->ops->state_space_scratch(device, space, tokens, bytes);
}

int device_state_space(struct device *device, void *out, const void *in,
                       const struct device_state_space *space, struct device_texts texts, void *state,
                       void *scratch, struct error *err) {
    if (texts.count == 0) {
        return STATUS_OK;
    }
    const char *fault = state_space_fault(space);
    if (fault == NULL && (out == NULL || in == NULL || texts.starts == NULL || texts.host_starts == NULL ||
                          space->convolution == NULL || space->decay == NULL || space->step_bias == NULL ||
                          space->skip == NULL || space->norm == NULL)) {
        fault = "a buffer is missing";
    }
    fault = fault != NULL ? fault : texts_fault(&texts, state);
    size_t bytes = 0;
    if (fault == NULL &&
        (!device_state_space_scratch(device, space, (size_t)texts.host_starts[texts.count], &bytes) ||
         (bytes > 0 && scratch == NULL))) {
        fault = "scratch is missing";
    }
    return fault != NULL ? refuse(err, "state_space", fault)
                         : device->ops->state_space(device, out, in, space, texts, state, scratch, err);
}

// ---- short convolutions ----

int device_short_convolution(struct device *device, void *out, const void *in,
                             const struct device_short_convolution *shape, struct device_texts texts,
                             void *state, struct error *err) {
    if (texts.count == 0) {
        return STATUS_OK;
    }
    if (out == NULL || in == NULL || shape->weight == NULL || texts.starts == NULL ||
        texts.host_starts == NULL) {
        return refuse(err, "short_convolution", "a buffer is missing");
    }
    if (shape->width == 0 || shape->taps == 0 || shape->taps > DEVICE_TAPS_MOST) {
        return refuse(err, "short_convolution", "a size is 0, or there are too many taps");
    }
    const char *fault = texts_fault(&texts, state);
    if (fault != NULL) {
        return refuse(err, "short_convolution", fault);
    }
    return device->ops->short_convolution(device, out, in, shape, texts, state, err);
}
