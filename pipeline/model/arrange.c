#include "model/arrange.h"

#include <string.h>

int arrange(unsigned char *out, size_t out_bytes, const struct arrangement *how, const unsigned char *in,
            size_t bytes, struct error *err) {
    if (how->kind != ARRANGE_AS_IS || bytes != out_bytes) {
        return error_set(err, STATUS_INTERNAL, "%zu bytes do not become %zu", bytes, out_bytes);
    }
    memcpy(out, in, bytes);
    return STATUS_OK;
}
