// SPDX-License-Identifier: MIT
// The format hdf5: a file in the layout of a shard (checkpoints/shard.h): contiguous datasets, groups named
// by the arrays' paths.
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "checkpoints/hdf5_file.h"
#include "export/format.h"

struct hdf5_array {
    hid_t dataset;
    hid_t type;
    uint64_t rows;
    uint64_t columns;
};

struct hdf5_store {
    struct array_store base;
    char path[PATH_SIZE];
    hid_t file;
    struct hdf5_array *arrays;
    size_t count;
};

static int hdf5_failed(const struct hdf5_store *store, const char *what, struct error *err) {
    return hdf5_fail(err, STATUS_WRITE, "%s: cannot %s", store->path, what);
}

// IEEE binary16 and bfloat16 as HDF5 describes them: `fraction` bits below `exponent` bits below the sign at
// bit 15.
static hid_t half_type(size_t exponent, size_t fraction, size_t bias) {
    hid_t type = H5Tcopy(H5T_IEEE_F32LE);
    if (type < 0 || H5Tset_fields(type, 15, fraction, exponent, 0, fraction) < 0 ||
        H5Tset_size(type, 2) < 0 || H5Tset_ebias(type, bias) < 0) {
        return H5I_INVALID_HID;
    }
    return type;
}

static hid_t file_type(enum array_type type) {
    switch (type) {
    case ARRAY_F16:
        return half_type(5, 10, 15);
    case ARRAY_BF16:
        return half_type(8, 7, 127);
    case ARRAY_F32:
        return H5Tcopy(H5T_IEEE_F32LE);
    case ARRAY_F64:
        return H5Tcopy(H5T_IEEE_F64LE);
    case ARRAY_U8:
        return H5Tcopy(H5T_STD_U8LE);
    case ARRAY_I32:
        return H5Tcopy(H5T_STD_I32LE);
    case ARRAY_I64:
        return H5Tcopy(H5T_STD_I64LE);
    }
    return H5I_INVALID_HID;
}

static int write_text_attribute(const struct hdf5_store *store, hid_t object, const char *name,
                                const char *value, struct error *err) {
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t type = H5Tcopy(H5T_C_S1);
    size_t length = strlen(value);
    bool good = space >= 0 && type >= 0 && H5Tset_size(type, length == 0 ? 1 : length) >= 0 &&
                H5Tset_strpad(type, H5T_STR_NULLPAD) >= 0 && H5Tset_cset(type, H5T_CSET_UTF8) >= 0;
    hid_t attribute =
        good ? H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT) : H5I_INVALID_HID;
    good = attribute >= 0 && H5Awrite(attribute, type, value) >= 0 && H5Aclose(attribute) >= 0;
    good = good && H5Tclose(type) >= 0 && H5Sclose(space) >= 0;
    return good ? STATUS_OK : hdf5_failed(store, "write an attribute", err);
}

// Makes the group of "group/name" when it is not there. Groups, like datasets, carry no times of their own:
// the same export gives the same file.
static bool ensure_group(const struct hdf5_store *store, const char *name) {
    const char *slash = strchr(name, '/');
    if (slash == NULL) {
        return true;
    }
    char group[64];
    if (snprintf(group, sizeof group, "%.*s", (int)(slash - name), name) >= (int)sizeof group) {
        return false;
    }
    htri_t exists = H5Lexists(store->file, group, H5P_DEFAULT);
    if (exists != 0) {
        return exists > 0;
    }
    hid_t creation = H5Pcreate(H5P_GROUP_CREATE);
    if (creation < 0 || H5Pset_obj_track_times(creation, false) < 0) {
        return false;
    }
    hid_t made = H5Gcreate2(store->file, group, H5P_DEFAULT, creation, H5P_DEFAULT);
    return made >= 0 && H5Gclose(made) >= 0 && H5Pclose(creation) >= 0;
}

static int create_array(struct hdf5_store *store, struct hdf5_array *array, const struct array_spec *spec,
                        struct error *err) {
    hsize_t extent[2] = {spec->rows, spec->columns};
    array->rows = spec->rows;
    array->columns = spec->columns;
    array->type = file_type(spec->type);
    hid_t space = H5Screate_simple(spec->columns == 0 ? 1 : 2, extent, NULL);
    hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    bool good = array->type >= 0 && space >= 0 && creation >= 0 && ensure_group(store, spec->name) &&
                H5Pset_obj_track_times(creation, false) >= 0 &&
                // Places in the file as datasets are made: they do not depend on which is written to first.
                H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY) >= 0 &&
                H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER) >= 0;
    if (good) {
        array->dataset =
            H5Dcreate2(store->file, spec->name, array->type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    }
    good = good && array->dataset >= 0 && H5Sclose(space) >= 0 && H5Pclose(creation) >= 0;
    if (!good) {
        return hdf5_failed(store, "create a dataset", err);
    }
    if (spec->layer != NULL) {
        TRY(write_text_attribute(store, array->dataset, "layer", spec->layer, err));
    }
    return spec->type == ARRAY_BF16 ? write_text_attribute(store, array->dataset, "dtype", "bfloat16", err)
                                    : STATUS_OK;
}

static int hdf5_put(struct array_store *base, size_t array, uint64_t first, uint64_t rows, const void *bytes,
                    struct error *err) {
    struct hdf5_store *store = (struct hdf5_store *)base;
    struct hdf5_array *place = &store->arrays[array];
    if (array >= store->count || first > place->rows || rows > place->rows - first) {
        return error_set(err, STATUS_INTERNAL, "%s: rows outside the array", store->path);
    }
    hsize_t start[2] = {first, 0};
    hsize_t extent[2] = {rows, place->columns};
    hid_t target = H5Dget_space(place->dataset);
    hid_t memory = H5Screate_simple(place->columns == 0 ? 1 : 2, extent, NULL);
    bool good = target >= 0 && memory >= 0 &&
                H5Sselect_hyperslab(target, H5S_SELECT_SET, start, NULL, extent, NULL) >= 0 &&
                H5Dwrite(place->dataset, place->type, memory, target, H5P_DEFAULT, bytes) >= 0 &&
                H5Sclose(memory) >= 0 && H5Sclose(target) >= 0;
    return good ? STATUS_OK : hdf5_failed(store, "write a dataset", err);
}

static int hdf5_close(struct array_store *base, struct error *err) {
    struct hdf5_store *store = (struct hdf5_store *)base;
    for (size_t i = 0; i < store->count; i++) {
        struct hdf5_array *array = &store->arrays[i];
        if (H5Dclose(array->dataset) < 0 || H5Tclose(array->type) < 0) {
            return hdf5_failed(store, "close a dataset", err);
        }
        array->dataset = H5I_INVALID_HID;
    }
    if (H5Fclose(store->file) < 0) {
        return hdf5_failed(store, "close the file", err);
    }
    store->file = H5I_INVALID_HID;
    return file_sync(store->path, err);
}

// Nothing of a file that failed is closed: after an error the library's state is not to be trusted, and the
// process is about to end.
static void hdf5_destroy(struct array_store *base) {
    struct hdf5_store *store = (struct hdf5_store *)base;
    free(store->arrays);
    free(store);
}

static int create_file(struct hdf5_store *store, struct error *err) {
    // HDF5 would make a file that anybody may write: it gets one that is there.
    int descriptor = -1;
    TRY(file_create(&descriptor, store->path, err));
    if (close(descriptor) != 0) {
        return error_set_errno(err, STATUS_WRITE, "cannot close %s", store->path);
    }
    H5dont_atexit(); // see hdf5_destroy; refused, without harm, when HDF5 is already in use
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    hid_t creation = H5Pcreate(H5P_FILE_CREATE);
    bool good = access >= 0 && creation >= 0 &&
                H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110) >= 0 &&
                H5Pset_obj_track_times(creation, false) >= 0;
    if (good) {
        store->file = H5Fcreate(store->path, H5F_ACC_TRUNC, creation, access);
    }
    good = good && store->file >= 0 && H5Pclose(access) >= 0 && H5Pclose(creation) >= 0;
    return good ? STATUS_OK : hdf5_failed(store, "create the file", err);
}

static int make(struct array_store **out, const char *path, const struct array_set *set, struct error *err) {
    void *block;
    int status;
    *out = NULL;
    TRY(memory_zeroed(&block, 1, sizeof(struct hdf5_store), err));
    struct hdf5_store *store = block;
    store->base = (struct array_store){hdf5_put, NULL, hdf5_close, hdf5_destroy};
    store->count = set->count;
    TRY_TO(failed, status = path_join(store->path, sizeof store->path, "", path, err));
    TRY_TO(failed, status = memory_zeroed(&block, set->count, sizeof(struct hdf5_array), err));
    store->arrays = block;
    TRY_TO(failed, status = create_file(store, err));
    for (size_t i = 0; i < set->attribute_count; i++) {
        TRY_TO(failed, status = write_text_attribute(store, store->file, set->attributes[i].name,
                                                     set->attributes[i].value, err));
    }
    for (size_t i = 0; i < set->count; i++) {
        TRY_TO(failed, status = create_array(store, &store->arrays[i], &set->specs[i], err));
    }
    *out = &store->base;
    return STATUS_OK;
failed:
    hdf5_destroy(&store->base);
    return status;
}

static int settle(struct export_plan *plan, const struct export_request *request, struct error *err) {
    (void)plan;
    return !request->shuffle_rows
               ? STATUS_OK
               : error_set(err, STATUS_USAGE,
                           "hdf5 has the layout of a shard, in which a problem's rows lie together: "
                           "--shuffle-rows needs safetensors or npy");
}

const struct export_format export_format_hdf5 = {
    .name = "hdf5",
    .help = "S.h5 in the layout of a shard",
    .settle = settle,
    .fill_line = export_format_fill_line,
    .layout = &export_split_arrays,
    .ending = ".h5",
    .array_overhead = 1024,
    .open_an_array = 1,
    .file_overhead = 64 << 10, // attributes: the template is the longest of them
    .as_shard = true,
    .make = make,
};
