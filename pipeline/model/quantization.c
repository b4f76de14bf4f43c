#include "model/quantization.h"

int quantization_read(struct quantization *out, const struct values *config, struct error *err) {
    *out = (struct quantization){0};
    if (values_has(config, "quantization_config") || values_has(config, "compression_config")) {
        return error_set(err, STATUS_DATA, "'quantization_config' is not supported");
    }
    return STATUS_OK;
}
