// The end of a shard: what is still in memory is written, then the commit order up to the ledger's door:
// close, sync the file, hash it, rename it, sync the folder (invariant 2).
#include <inttypes.h>

#include "checkpoints/run_folder.h"
#include "checkpoints/shard_describe.h"
#include "checkpoints/shard_writer.h"

static int write_root_attributes(const struct shard_writer *writer, struct error *err) {
    const struct shard_layout *layout = writer->layout;
    hid_t file = writer->file;
    const uint32_t version = SHARD_FORMAT;
    int status = hdf5_set_numbers(file, "/", "format_version", HDF5_U32, 0, &version, err);
    if (status == STATUS_OK) {
        status = shard_set_u64(file, "/", "shard", writer->number, err);
    }
    if (status == STATUS_OK) {
        status = shard_set_u64(file, "/", "hidden", layout->hidden, err);
    }
    if (status == STATUS_OK) {
        status = shard_set_u64(file, "/", "model_layers", layout->model_layers, err);
    }
    if (status == STATUS_OK) {
        status = shard_set_u64(file, "/", "layer_count", layout->layer_count, err);
    }
    uint64_t layers[SHARD_LAYERS];
    for (size_t i = 0; i < layout->layer_count; i++) {
        layers[i] = layout->layers[i];
    }
    if (status == STATUS_OK) {
        status = hdf5_set_numbers(file, "/", "layers", HDF5_U64, layout->layer_count, layers, err);
    }
    if (status == STATUS_OK) {
        status = hdf5_set_text(file, "/", "dtype", dtype_name(layout->dtype), err);
    }
    for (size_t i = 0; status == STATUS_OK && i < layout->attribute_count; i++) {
        status = hdf5_set_text(file, "/", layout->attributes[i].name, layout->attributes[i].value, err);
    }
    return status;
}

static int write_rest(struct shard_writer *writer, struct error *err) {
    const struct shard_layout *layout = writer->layout;
    int status = shard_columns_finish(&writer->columns, writer->file, err);
    for (size_t i = 0; status == STATUS_OK && i < layout->layer_count; i++) {
        status = column_finish(&writer->latents[i], writer->file, err);
        if (status == STATUS_OK) {
            status = shard_name_layer(writer->file, writer->latents[i].path, layout->layers[i],
                                      layout->model_layers, layout->dtype, err);
        }
        if (status == STATUS_OK) {
            status = shard_write_statistics(writer->file, &writer->figures[i], layout->layers[i],
                                            layout->hidden, err);
        }
    }
    if (status == STATUS_OK) {
        status = write_root_attributes(writer, err);
    }
    if (status == STATUS_OK && H5Fclose(writer->file) < 0) {
        status = hdf5_fail(err, STATUS_WRITE, "cannot close %s", writer->aside);
    }
    return status;
}

static int publish(const struct shard_writer *writer, bool partial, struct shard_sealed *sealed,
                   struct error *err) {
    char path[PATH_SIZE];
    run_folder_shard_name(sealed->name, writer->number, partial);
    int status = run_folder_shard(path, writer->folder, writer->number, partial, err);
    // HDF5 reaches the page cache only. The sync comes first so that the hash is of what the disk took; a
    // sync that failed is final (invariant 10).
    if (status == STATUS_OK) {
        status = file_sync(writer->aside, err);
    }
    if (status == STATUS_OK) {
        status = digest_file(writer->aside, sealed->sha256, err);
    }
    if (status == STATUS_OK) {
        status = file_size(writer->aside, &sealed->bytes, err);
    }
    return status == STATUS_OK ? file_publish(writer->aside, path, err) : status;
}

int shard_seal(struct shard_writer *writer, bool partial, struct shard_sealed *sealed, struct error *err) {
    *sealed = (struct shard_sealed){0};
    if (writer->broken || !writer->open) {
        return error_set(err, STATUS_INTERNAL, "no shard is open to be sealed");
    }
    hdf5_quiet();
    int status = write_rest(writer, err);
    if (status == STATUS_OK) {
        sealed->problems = shard_columns_problems(&writer->columns);
        sealed->rows = shard_columns_rows(&writer->columns);
        sealed->tokens = writer->columns.tokens;
        status = publish(writer, partial, sealed, err);
    }
    if (status != STATUS_OK) {
        writer->broken = true;
        return error_wrap(err, "shard %" PRIu64, writer->number);
    }
    writer->open = false;
    writer->file = H5I_INVALID_HID;
    return STATUS_OK;
}
