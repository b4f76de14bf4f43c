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
    TRY(hdf5_set_numbers(file, "/", "format_version", HDF5_U32, 0, &version, err));
    TRY(shard_set_u64(file, "/", "shard", writer->number, err));
    TRY(shard_set_u64(file, "/", "hidden", layout->hidden, err));
    TRY(shard_set_u64(file, "/", "model_layers", layout->model_layers, err));
    TRY(shard_set_u64(file, "/", "layer_count", layout->layer_count, err));
    uint64_t layers[SHARD_LAYERS];
    for (size_t i = 0; i < layout->layer_count; i++) {
        layers[i] = layout->layers[i];
    }
    TRY(hdf5_set_numbers(file, "/", "layers", HDF5_U64, layout->layer_count, layers, err));
    TRY(hdf5_set_text(file, "/", "dtype", dtype_name(layout->dtype), err));
    for (size_t i = 0; i < layout->attribute_count; i++) {
        TRY(hdf5_set_text(file, "/", layout->attributes[i].name, layout->attributes[i].value, err));
    }
    return STATUS_OK;
}

static int write_rest(struct shard_writer *writer, struct error *err) {
    const struct shard_layout *layout = writer->layout;
    TRY(shard_columns_finish(&writer->columns, writer->file, err));
    for (size_t i = 0; i < layout->layer_count; i++) {
        TRY(column_finish(&writer->latents[i], writer->file, err));
        TRY(shard_name_layer(writer->file, writer->latents[i].path, layout->layers[i], layout->model_layers,
                             layout->dtype, err));
        TRY(shard_write_statistics(writer->file, &writer->figures[i], layout->layers[i], layout->hidden,
                                   err));
    }
    TRY(write_root_attributes(writer, err));
    if (H5Fclose(writer->file) < 0) {
        return hdf5_fail(err, STATUS_WRITE, "cannot close %s", writer->aside);
    }
    return STATUS_OK;
}

static int publish(const struct shard_writer *writer, bool partial, struct shard_sealed *sealed,
                   struct error *err) {
    char path[PATH_SIZE];
    run_folder_shard_name(sealed->name, writer->number, partial);
    TRY(run_folder_shard(path, writer->folder, writer->number, partial, err));
    // HDF5 reaches the page cache only. The sync comes first so that the hash is of what the disk took; a
    // sync that failed is final (invariant 10).
    TRY(file_sync(writer->aside, err));
    TRY(digest_file(writer->aside, sealed->sha256, err));
    TRY(file_size(writer->aside, &sealed->bytes, err));
    return file_publish(writer->aside, path, err);
}

int shard_seal(struct shard_writer *writer, bool partial, struct shard_sealed *sealed, struct error *err) {
    *sealed = (struct shard_sealed){0};
    if (writer->broken || !writer->open) {
        return error_set(err, STATUS_INTERNAL, "no shard is open to be sealed");
    }
    hdf5_quiet();
    int status;
    TRY_TO(done, status = write_rest(writer, err));
    sealed->problems = shard_columns_problems(&writer->columns);
    sealed->rows = shard_columns_rows(&writer->columns);
    sealed->tokens = writer->columns.tokens;
    TRY_TO(done, status = publish(writer, partial, sealed, err));
done:
    if (status != STATUS_OK) {
        writer->broken = true;
        return error_wrap(err, "shard %" PRIu64, writer->number);
    }
    writer->open = false;
    writer->file = H5I_INVALID_HID;
    return STATUS_OK;
}
