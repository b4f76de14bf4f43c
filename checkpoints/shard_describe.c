// SPDX-License-Identifier: MIT
#include "checkpoints/shard_describe.h"

#include <stdio.h>

#include "checkpoints/layer.h"

int shard_set_u64(hid_t file, const char *path, const char *name, uint64_t value, struct error *err) {
    return hdf5_set_numbers(file, path, name, HDF5_U64, 0, &value, err);
}

static int set_flag(hid_t file, const char *path, const char *name, bool value, struct error *err) {
    uint8_t flag = value;
    return hdf5_set_numbers(file, path, name, HDF5_U8, 0, &flag, err);
}

// Names the layer three ways: the transformers index, the block and side of the final norm, and a sentence.
// Block 0 is the embedding; pre_norm has no index.
int shard_name_layer(hid_t file, const char *path, size_t layer, size_t model_layers, enum dtype dtype,
                     struct error *err) {
    char sentence[LAYER_TEXT];
    bool in_tuple = !layer_is_pre_norm(layer, model_layers);
    layer_text(sentence, layer, model_layers);
    TRY(in_tuple ? shard_set_u64(file, path, "hidden_states_index", layer, err)
                 : set_flag(file, path, "pre_norm", true, err));
    TRY(shard_set_u64(file, path, "block", layer_block(layer, model_layers), err));
    TRY(set_flag(file, path, "after_final_norm", layer_after_final_norm(layer, model_layers), err));
    TRY(hdf5_set_text(file, path, "layer", sentence, err));
    return hdf5_set_text(file, path, "dtype", dtype_name(dtype), err);
}

int shard_write_statistics(hid_t file, const struct statistics *figures, size_t layer, size_t model_layers,
                           size_t hidden, struct error *err) {
    const struct {
        const char *name;
        const double *values;
    } parts[] = {{"sum", figures->sum},
                 {"sum_of_squares", figures->sum_of_squares},
                 {"minimum", figures->minimum},
                 {"maximum", figures->maximum}};
    char name[LAYER_NAME];
    char group[64];
    char path[96];
    snprintf(group, sizeof group, "/statistics/%s", layer_name(name, layer, model_layers));
    TRY(hdf5_make_group(file, group, err));
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", group, parts[i].name);
        TRY(hdf5_write(file, path, H5T_IEEE_F64LE, hidden, 0, parts[i].values, err));
    }
    TRY(shard_set_u64(file, group, "rows", figures->rows, err));
    return hdf5_set_numbers(file, group, "norm_sum", HDF5_F64, 0, &figures->norm_sum, err);
}
