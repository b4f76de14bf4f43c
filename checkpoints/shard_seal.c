// The end of a shard: what is still in memory is written, then the commit order up to the ledger's door:
// close, sync the file, hash it, rename it, sync the folder.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "checkpoints/run_folder.h"
#include "checkpoints/shard_writer.h"

static int set_u64(hid_t file, const char *path, const char *name, uint64_t value, struct error *err) {
    return hdf5_set_numbers(file, path, name, HDF5_U64, 0, &value, err);
}

static int set_flag(hid_t file, const char *path, const char *name, bool value, struct error *err) {
    uint8_t flag = value;
    return hdf5_set_numbers(file, path, name, HDF5_U8, 0, &flag, err);
}

// "hidden_states[35] of 0..36 = output of block 35 of 36, before the final norm"
static void describe_layer(char out[160], size_t layer, size_t blocks) {
    char source[96];
    if (layer == 0) {
        snprintf(source, sizeof source, "embedding output");
    } else {
        snprintf(source, sizeof source, "output of block %zu of %zu, %s the final norm", layer, blocks,
                 layer == blocks ? "after" : "before");
    }
    snprintf(out, 160, "hidden_states[%zu] of 0..%zu = %s", layer, blocks, source);
}

// Names the layer three ways: the transformers index, the block and side of the final norm, and a sentence.
// Block 0 is the embedding.
static int name_layer(hid_t file, const char *path, const struct shard_layout *layout, size_t layer,
                      struct error *err) {
    char sentence[160];
    describe_layer(sentence, layer, layout->model_layers);
    bool normed = layer == layout->model_layers && layer > 0;
    int status = set_u64(file, path, "hidden_states_index", layer, err);
    if (status == STATUS_OK) {
        status = set_u64(file, path, "block", layer, err);
    }
    if (status == STATUS_OK) {
        status = set_flag(file, path, "after_final_norm", normed, err);
    }
    if (status == STATUS_OK) {
        status = hdf5_set_text(file, path, "layer", sentence, err);
    }
    if (status == STATUS_OK) {
        status = hdf5_set_text(file, path, "dtype", dtype_name(layout->dtype), err);
    }
    return status;
}

static int write_statistics(hid_t file, const struct statistics *figures, size_t layer, size_t hidden,
                            struct error *err) {
    const struct {
        const char *name;
        const double *values;
    } parts[] = {{"sum", figures->sum},
                 {"sum_of_squares", figures->sum_of_squares},
                 {"minimum", figures->minimum},
                 {"maximum", figures->maximum}};
    char group[48];
    char path[80];
    snprintf(group, sizeof group, "/statistics/hs_%03zu", layer);
    int status = hdf5_make_group(file, group, err);
    for (size_t i = 0; status == STATUS_OK && i < sizeof parts / sizeof parts[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", group, parts[i].name);
        status = hdf5_write(file, path, H5T_IEEE_F64LE, hidden, 0, parts[i].values, err);
    }
    if (status == STATUS_OK) {
        status = set_u64(file, group, "rows", figures->rows, err);
    }
    if (status == STATUS_OK) {
        status = hdf5_set_numbers(file, group, "norm_sum", HDF5_F64, 0, &figures->norm_sum, err);
    }
    return status;
}

static int write_root_attributes(const struct shard_writer *writer, struct error *err) {
    const struct shard_layout *layout = writer->layout;
    hid_t file = writer->file;
    const uint32_t version = SHARD_FORMAT;
    int status = hdf5_set_numbers(file, "/", "format_version", HDF5_U32, 0, &version, err);
    if (status == STATUS_OK) {
        status = set_u64(file, "/", "shard", writer->number, err);
    }
    if (status == STATUS_OK) {
        status = set_u64(file, "/", "hidden", layout->hidden, err);
    }
    if (status == STATUS_OK) {
        status = set_u64(file, "/", "model_layers", layout->model_layers, err);
    }
    if (status == STATUS_OK) {
        status = set_u64(file, "/", "layer_count", layout->layer_count, err);
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
            status = name_layer(writer->file, writer->latents[i].path, layout, layout->layers[i], err);
        }
        if (status == STATUS_OK) {
            status =
                write_statistics(writer->file, &writer->figures[i], layout->layers[i], layout->hidden, err);
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
    // sync that failed is final.
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
