// SPDX-License-Identifier: MIT
#include "export/array_store.h"

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

int array_store_read(struct array_store *store, size_t array, uint64_t first, uint64_t rows, void *bytes,
                     struct error *err) {
    return rows == 0 ? STATUS_OK : store->read(store, array, first, rows, bytes, err);
}

int array_store_close(struct array_store *store, struct error *err) {
    return store->close(store, err);
}

void array_store_destroy(struct array_store *store) {
    if (store != NULL) {
        store->destroy(store);
    }
}
