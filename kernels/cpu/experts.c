// Mixtures of experts: the choice of each token's experts, and their products.
#include "kernels/cpu/cpu_device.h"

int cpu_route(struct device *device, const struct device_routes *routes, const void *x, const void *router,
              const void *bias, const struct device_routing *routing, size_t tokens, size_t hidden,
              struct error *err) {
    (void)device, (void)routes, (void)x, (void)router, (void)bias, (void)routing, (void)tokens, (void)hidden;
    return error_set(err, STATUS_INTERNAL, "route is not built");
}

bool cpu_experts_scratch(const struct device *device, const struct device_experts *experts, size_t tokens,
                         size_t *bytes) {
    (void)device, (void)experts, (void)tokens;
    *bytes = 0;
    return true;
}

int cpu_experts(struct device *device, void *out, const void *x, const struct device_routes *routes,
                const struct device_experts *experts, enum device_store store, size_t tokens, void *scratch,
                struct error *err) {
    (void)device, (void)out, (void)x, (void)routes, (void)experts, (void)store, (void)tokens, (void)scratch;
    return error_set(err, STATUS_INTERNAL, "experts is not built");
}
