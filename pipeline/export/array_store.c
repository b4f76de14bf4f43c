#include "export/array_store.h"

#include "base/size.h"

size_t array_type_size(enum array_type type) {
    switch (type) {
    case ARRAY_F16:
    case ARRAY_BF16:
        return 2;
    case ARRAY_F32:
    case ARRAY_I32:
        return 4;
    case ARRAY_F64:
    case ARRAY_I64:
        return 8;
    case ARRAY_U8:
        return 1;
    }
    return 0;
}

enum array_type array_type_of(enum dtype dtype) {
    return dtype == DTYPE_F32 ? ARRAY_F32 : dtype == DTYPE_F16 ? ARRAY_F16 : ARRAY_BF16;
}

int array_store_write(struct array_store *store, size_t array, uint64_t first, uint64_t rows,
                      const void *bytes, struct error *err) {
    return rows == 0 ? STATUS_OK : store->write(store, array, first, rows, bytes, err);
}

int array_store_close(struct array_store *store, struct error *err) {
    return store->close(store, err);
}

void array_store_destroy(struct array_store *store) {
    if (store != NULL) {
        store->destroy(store);
    }
}

int array_specs_bytes(const struct array_spec *specs, size_t count, uint64_t *bytes, struct error *err) {
    size_t total = 0;
    for (size_t i = 0; i < count; i++) {
        size_t numbers;
        size_t size;
        if (!size_mul(specs[i].rows, specs[i].columns == 0 ? 1 : specs[i].columns, &numbers) ||
            !size_mul(numbers, array_type_size(specs[i].type), &size) || !size_add(total, size, &total)) {
            return error_set(err, STATUS_INTERNAL, "the array %s is too large to be counted", specs[i].name);
        }
    }
    *bytes = total;
    return STATUS_OK;
}
