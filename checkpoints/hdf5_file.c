// SPDX-License-Identifier: MIT
#include "checkpoints/hdf5_file.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/size.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "shards are written from memory as it is: little-endian");

void hdf5_quiet(void) {
    // Its handler walks files that an error left half closed, and crashes. Refused, without harm, at every
    // call but the first.
    H5dont_atexit();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

struct first_cause {
    char text[512];
    int number; // errno of the call that failed, where the file driver names it
};

// The stack is walked from the innermost entry: the first one says what went wrong, the others who passed it
// on.
static herr_t note_cause(unsigned place, const H5E_error2_t *entry, void *context) {
    struct first_cause *cause = context;
    if (place != 0) {
        return 0;
    }
    const char *text = entry->desc == NULL ? "no reason given" : entry->desc;
    const char *mark = "error message = '";
    const char *number = strstr(text, "errno = ");
    cause->number = number == NULL ? 0 : atoi(number + strlen("errno = "));
    const char *inner = strstr(text, mark); // the virtual file driver buries the text of errno in a long line
    if (inner != NULL) {
        inner += strlen(mark);
        snprintf(cause->text, sizeof cause->text, "%.*s (%s)", (int)strcspn(inner, "'"), inner,
                 entry->func_name);
    } else {
        snprintf(cause->text, sizeof cause->text, "%.300s (%s)", text, entry->func_name);
    }
    return 0;
}

int hdf5_fail(struct error *err, int status, const char *format, ...) {
    struct first_cause cause = {.text = "no reason given"};
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, note_cause, &cause);
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return error_set(err, error_is_shortage(cause.number) ? STATUS_INTERNAL : status, "%s: HDF5: %s", text,
                     cause.text);
}

// Without HDF5's own locks: what is read does not change any more, what is written has one runner, and a file
// system of a cluster may have none.
static hid_t access_plist(void) {
    hid_t plist = H5Pcreate(H5P_FILE_ACCESS);
    if (plist < 0 || H5Pset_libver_bounds(plist, H5F_LIBVER_V110, H5F_LIBVER_V110) < 0 ||
        H5Pset_fclose_degree(plist, H5F_CLOSE_STRONG) < 0 || H5Pset_file_locking(plist, false, true) < 0) {
        H5Pclose(plist);
        return H5I_INVALID_HID;
    }
    return plist;
}

int hdf5_create(hid_t *file, const char *path, struct error *err) {
    int descriptor;
    *file = H5I_INVALID_HID;
    // HDF5 would follow a link, and make a file that anybody may write: it gets one that is there.
    TRY(file_create(&descriptor, path, err));
    if (close(descriptor) != 0) {
        return error_set_errno(err, STATUS_WRITE, "cannot close %s", path);
    }
    int status = STATUS_OK;
    hid_t access = access_plist();
    hid_t creation = H5Pcreate(H5P_FILE_CREATE);
    // On this list it speaks of the root group, whose times would differ from run to run.
    if (access < 0 || creation < 0 || H5Pset_obj_track_times(creation, false) < 0) {
        status = hdf5_fail(err, STATUS_INTERNAL, "cannot prepare %s", path);
        goto done;
    }
    *file = H5Fcreate(path, H5F_ACC_TRUNC, creation, access);
    if (*file < 0) {
        status = hdf5_fail(err, STATUS_WRITE, "cannot create %s", path);
    }
done:
    H5Pclose(access);
    H5Pclose(creation);
    return status;
}

int hdf5_open(hid_t *file, const char *path, struct error *err) {
    *file = H5I_INVALID_HID;
    TRY(file_check_own(path, err));
    hid_t access = access_plist();
    if (access < 0) {
        return hdf5_fail(err, STATUS_INTERNAL, "cannot prepare to read %s", path);
    }
    *file = H5Fopen(path, H5F_ACC_RDONLY, access);
    int status = *file < 0 ? hdf5_fail(err, STATUS_DATA, "cannot open %s", path) : STATUS_OK;
    H5Pclose(access);
    return status;
}

static herr_t note_soft_link(hid_t group, const char *name, const H5L_info_t *info, void *context) {
    struct first_cause *found = context;
    (void)group;
    if (info->type == H5L_TYPE_HARD) {
        return 0;
    }
    snprintf(found->text, sizeof found->text, "%.400s is a link %s", name,
             info->type == H5L_TYPE_SOFT ? "to another place" : "to another file");
    return 1;
}

int hdf5_check_links(hid_t file, struct error *err) {
    struct first_cause found = {.text = ""};
    herr_t result = H5Lvisit(file, H5_INDEX_NAME, H5_ITER_NATIVE, note_soft_link, &found);
    return result < 0   ? hdf5_fail(err, STATUS_DATA, "cannot list what the file holds")
           : result > 0 ? error_set(err, STATUS_DATA, "%s, which is not followed", found.text)
                        : STATUS_OK;
}

int hdf5_check_storage(hid_t dataset, const char *path, struct error *err) {
    hid_t plist = H5Dget_create_plist(dataset);
    H5D_layout_t layout = plist < 0 ? H5D_LAYOUT_ERROR : H5Pget_layout(plist);
    int outside = plist < 0 ? -1 : H5Pget_external_count(plist);
    int filters = plist < 0 ? -1 : H5Pget_nfilters(plist);
    int status = STATUS_OK;
    if (layout == H5D_LAYOUT_ERROR || outside < 0 || filters < 0) {
        status = hdf5_fail(err, STATUS_DATA, "cannot see how the dataset %s is stored", path);
    } else if (layout == H5D_VIRTUAL || outside > 0) {
        status = error_set(err, STATUS_DATA, "the dataset %s lies in other files, which are not read", path);
    } else if (filters > 0) {
        status = error_set(err, STATUS_DATA, "the dataset %s is filtered, as no shard is", path);
    }
    H5Pclose(plist);
    return status;
}

int hdf5_dataset_plist(hid_t *plist, struct error *err) {
    *plist = H5Pcreate(H5P_DATASET_CREATE);
    if (*plist < 0 || H5Pset_obj_track_times(*plist, false) < 0 ||
        H5Pset_fill_time(*plist, H5D_FILL_TIME_NEVER) < 0) {
        return hdf5_fail(err, STATUS_INTERNAL, "cannot prepare a dataset");
    }
    return STATUS_OK;
}

int hdf5_make_group(hid_t file, const char *path, struct error *err) {
    hid_t plist = H5Pcreate(H5P_GROUP_CREATE);
    hid_t group = H5I_INVALID_HID;
    if (plist >= 0 && H5Pset_obj_track_times(plist, false) >= 0) {
        group = H5Gcreate2(file, path, H5P_DEFAULT, plist, H5P_DEFAULT);
    }
    int status = group < 0 ? hdf5_fail(err, STATUS_WRITE, "cannot make the group %s", path) : STATUS_OK;
    if (group >= 0 && H5Gclose(group) < 0) {
        status = hdf5_fail(err, STATUS_WRITE, "cannot close the group %s", path);
    }
    H5Pclose(plist);
    return status;
}

hid_t hdf5_kind_type(enum hdf5_kind kind) {
    switch (kind) {
    case HDF5_U8:
        return H5T_STD_U8LE;
    case HDF5_U32:
        return H5T_STD_U32LE;
    case HDF5_I32:
        return H5T_STD_I32LE;
    case HDF5_U64:
        return H5T_STD_U64LE;
    case HDF5_F64:
        return H5T_IEEE_F64LE;
    }
    return H5I_INVALID_HID;
}

size_t hdf5_kind_size(enum hdf5_kind kind) {
    static const size_t sizes[] = {
        [HDF5_U8] = 1, [HDF5_U32] = 4, [HDF5_I32] = 4, [HDF5_U64] = 8, [HDF5_F64] = 8};
    return sizes[kind];
}

int hdf5_float_type(hid_t *type, enum dtype dtype, struct error *err) {
    *type = H5Tcopy(H5T_IEEE_F32LE);
    if (*type < 0) {
        return hdf5_fail(err, STATUS_INTERNAL, "cannot make the type %s", dtype_name(dtype));
    }
    if (dtype == DTYPE_F32) {
        return STATUS_OK;
    }
    size_t mantissa = dtype == DTYPE_F16 ? 10 : 7;
    size_t bias = dtype == DTYPE_F16 ? 15 : 127;
    // Fields first: the size may shrink only once everything lies within the new one.
    if (H5Tset_fields(*type, 15, mantissa, 15 - mantissa, 0, mantissa) < 0 || H5Tset_size(*type, 2) < 0 ||
        H5Tset_ebias(*type, bias) < 0) {
        return hdf5_fail(err, STATUS_INTERNAL, "cannot make the type %s", dtype_name(dtype));
    }
    return STATUS_OK;
}

int hdf5_write(hid_t file, const char *path, hid_t type, size_t count, size_t width, const void *data,
               struct error *err) {
    hsize_t dims[2] = {count, width};
    hid_t plist = H5I_INVALID_HID;
    hid_t space = H5I_INVALID_HID;
    hid_t dataset = H5I_INVALID_HID;
    int status = hdf5_dataset_plist(&plist, err);
    if (status != STATUS_OK) {
        goto done;
    }
    space = H5Screate_simple(width > 0 ? 2 : 1, dims, NULL);
    dataset = space < 0 ? space : H5Dcreate2(file, path, type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    if (dataset < 0 || (count > 0 && H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)) {
        status = hdf5_fail(err, STATUS_WRITE, "cannot write the dataset %s", path);
        goto done;
    }
    if (H5Dclose(dataset) < 0) {
        status = hdf5_fail(err, STATUS_WRITE, "cannot close the dataset %s", path);
    }
    dataset = H5I_INVALID_HID;
done:
    if (dataset >= 0) {
        H5Dclose(dataset);
    }
    H5Sclose(space);
    H5Pclose(plist);
    return status;
}

static int set_attribute(hid_t file, const char *path, const char *name, hid_t type, hid_t space,
                         const void *value, struct error *err) {
    int status = STATUS_OK;
    hid_t attribute = H5Acreate_by_name(file, path, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute < 0 || H5Awrite(attribute, type, value) < 0) {
        status = hdf5_fail(err, STATUS_WRITE, "cannot write the attribute %s of %s", name, path);
    }
    if (attribute >= 0 && H5Aclose(attribute) < 0 && status == STATUS_OK) {
        status = hdf5_fail(err, STATUS_WRITE, "cannot close the attribute %s of %s", name, path);
    }
    return status;
}

int hdf5_set_text(hid_t file, const char *path, const char *name, const char *value, struct error *err) {
    int status;
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t type = H5Tcopy(H5T_C_S1);
    // HDF5 has no text of size 0: an empty one is a single 0.
    if (space < 0 || type < 0 || H5Tset_size(type, size_max(strlen(value), 1)) < 0 ||
        H5Tset_strpad(type, H5T_STR_NULLPAD) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0) {
        status = hdf5_fail(err, STATUS_INTERNAL, "cannot prepare the attribute %s", name);
    } else {
        status = set_attribute(file, path, name, type, space, value, err);
    }
    H5Tclose(type);
    H5Sclose(space);
    return status;
}

int hdf5_set_numbers(hid_t file, const char *path, const char *name, enum hdf5_kind kind, size_t count,
                     const void *values, struct error *err) {
    hsize_t length = count;
    hid_t space = count == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &length, NULL);
    int status = space < 0 ? hdf5_fail(err, STATUS_INTERNAL, "cannot prepare the attribute %s", name)
                           : set_attribute(file, path, name, hdf5_kind_type(kind), space, values, err);
    H5Sclose(space);
    return status;
}

int hdf5_get_numbers(hid_t file, const char *path, const char *name, enum hdf5_kind kind, size_t count,
                     void *values, struct error *err) {
    int status = STATUS_OK;
    hid_t space = H5I_INVALID_HID;
    hid_t stored = H5I_INVALID_HID;
    hid_t type = hdf5_kind_type(kind);
    hid_t attribute = H5Aopen_by_name(file, path, name, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute < 0) {
        status = hdf5_fail(err, STATUS_DATA, "no attribute %s at %s", name, path);
        goto done;
    }
    space = H5Aget_space(attribute);
    stored = H5Aget_type(attribute);
    hssize_t points = space < 0 ? -1 : H5Sget_simple_extent_npoints(space);
    if (points != (hssize_t)size_max(count, 1) || stored < 0 || H5Tequal(stored, type) <= 0) {
        status = error_set(err, STATUS_DATA, "the attribute %s at %s has another type or length", name, path);
        goto done;
    }
    if (H5Aread(attribute, type, values) < 0) {
        status = hdf5_fail(err, STATUS_DATA, "cannot read the attribute %s at %s", name, path);
    }
done:
    H5Tclose(stored);
    H5Sclose(space);
    H5Aclose(attribute);
    return status;
}

int hdf5_read_column(hid_t file, const char *path, enum hdf5_kind kind, void **data, size_t *count,
                     struct error *err) {
    *data = NULL;
    *count = 0;
    hsize_t length = 0;
    size_t bytes;
    int status = STATUS_OK;
    hid_t space = H5I_INVALID_HID;
    hid_t stored = H5I_INVALID_HID;
    hid_t type = hdf5_kind_type(kind);
    hid_t dataset = H5Dopen2(file, path, H5P_DEFAULT);
    if (dataset < 0) {
        return hdf5_fail(err, STATUS_DATA, "no dataset %s", path);
    }
    TRY_TO(done, status = hdf5_check_storage(dataset, path, err));
    space = H5Dget_space(dataset);
    stored = H5Dget_type(dataset);
    if (space < 0 || stored < 0 || H5Sget_simple_extent_ndims(space) != 1 || H5Tequal(stored, type) <= 0 ||
        H5Sget_simple_extent_dims(space, &length, NULL) != 1) {
        status = error_set(err, STATUS_DATA, "the dataset %s has another type or shape", path);
        goto done;
    }
    // What is claimed must be stored, so that a damaged length cannot ask for endless memory.
    if (!size_mul(length, hdf5_kind_size(kind), &bytes) || bytes > H5Dget_storage_size(dataset)) {
        status = error_set(err, STATUS_DATA, "the dataset %s is longer than what the file stores", path);
        goto done;
    }
    TRY_TO(done, status = memory_zeroed(data, length, hdf5_kind_size(kind), err));
    if (length > 0 && H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, *data) < 0) {
        status = hdf5_fail(err, STATUS_DATA, "cannot read the dataset %s", path);
    }
    *count = length;
done:
    H5Tclose(stored);
    H5Sclose(space);
    H5Dclose(dataset);
    if (status != STATUS_OK) {
        free(*data);
        *data = NULL;
    }
    return status;
}
