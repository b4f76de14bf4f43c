// SPDX-License-Identifier: MIT
#include "model/adapter_find.h"

#include "model/place.h"

static const char convert[] = "python3 -c \"import sys, torch, safetensors.torch as s; "
                              "s.save_file(torch.load(sys.argv[1], weights_only=True), sys.argv[2])\"";

static int no_folder(const char *path, enum model_form form, struct error *err) {
    switch (form) {
    case MODEL_FORM_NONE:
        return error_set(err, STATUS_DATA, "there is no folder %s, and strata downloads nothing", path);
    case MODEL_FORM_GGUF:
        return error_set(err, STATUS_DATA,
                         "%s is a GGUF file, of which adapters are not read: get the adapter as peft saves "
                         "it, a folder with " ADAPTER_CONFIG " and " ADAPTER_WEIGHTS,
                         path);
    default:
        return error_set(err, STATUS_DATA,
                         "%s is not a folder: an adapter is the folder with " ADAPTER_CONFIG
                         " and " ADAPTER_WEIGHTS,
                         path);
    }
}

int adapter_find(char config[PATH_SIZE], char weights[PATH_SIZE], const char *folder, struct error *err) {
    enum model_form form;
    TRY(model_form(folder, &form, err));
    if (form != MODEL_FORM_FOLDER) {
        return no_folder(folder, form, err);
    }
    if (!model_has_file(folder, ADAPTER_CONFIG)) {
        return error_set(err, STATUS_DATA, "%s holds no " ADAPTER_CONFIG ": it is no adapter that peft saved",
                         folder);
    }
    if (model_has_file(folder, ADAPTER_WEIGHTS)) {
        TRY(model_file_path(config, folder, ADAPTER_CONFIG, err));
        return model_file_path(weights, folder, ADAPTER_WEIGHTS, err);
    }
    return model_has_file(folder, "adapter_model.bin")
               ? error_set(err, STATUS_DATA,
                           "%s holds a PyTorch pickle (adapter_model.bin) and no " ADAPTER_WEIGHTS
                           ": make one of it: %s %s/adapter_model.bin %s/" ADAPTER_WEIGHTS,
                           folder, convert, folder, folder)
               : error_set(err, STATUS_DATA, "%s holds no " ADAPTER_WEIGHTS ": was the download complete?",
                           folder);
}
