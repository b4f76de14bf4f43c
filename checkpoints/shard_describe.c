#include "checkpoints/shard_describe.h"

#include <stdio.h>

int shard_set_u64(hid_t file, const char *path, const char *name, uint64_t value, struct error *err) {
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
int shard_name_layer(hid_t file, const char *path, size_t layer, size_t model_layers, enum dtype dtype,
                     struct error *err) {
    char sentence[160];
    describe_layer(sentence, layer, model_layers);
    bool normed = layer == model_layers && layer > 0;
    TRY(shard_set_u64(file, path, "hidden_states_index", layer, err));
    TRY(shard_set_u64(file, path, "block", layer, err));
    TRY(set_flag(file, path, "after_final_norm", normed, err));
    TRY(hdf5_set_text(file, path, "layer", sentence, err));
    return hdf5_set_text(file, path, "dtype", dtype_name(dtype), err);
}

int shard_write_statistics(hid_t file, const struct statistics *figures, size_t layer, size_t hidden,
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
    TRY(hdf5_make_group(file, group, err));
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", group, parts[i].name);
        TRY(hdf5_write(file, path, H5T_IEEE_F64LE, hidden, 0, parts[i].values, err));
    }
    TRY(shard_set_u64(file, group, "rows", figures->rows, err));
    return hdf5_set_numbers(file, group, "norm_sum", HDF5_F64, 0, &figures->norm_sum, err);
}
