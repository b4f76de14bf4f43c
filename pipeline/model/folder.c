// SPDX-License-Identifier: MIT
#include "model/folder.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/first_bytes.h"
#include "base/json.h"
#include "model/adapter_find.h"
#include "model/place.h"

#define DOWNLOADS "strata downloads nothing"

enum { NAME_SIZE = 256, ADAPTER_LIMIT = 1 << 20 };

// ---- names ----

static bool ends_with(const char *name, const char *end) {
    size_t length = strlen(name);
    size_t wanted = strlen(end);
    return length > wanted && strcmp(name + length - wanted, end) == 0;
}

static bool starts_with(const char *name, const char *start) {
    return strncmp(name, start, strlen(start)) == 0;
}

// The first name, in the order of the alphabet, that `fits`; false when there is none.
static bool find_name(char out[NAME_SIZE], const char *folder, bool (*fits)(const char *name)) {
    DIR *stream = opendir(folder);
    out[0] = 0;
    if (stream == NULL) {
        return false;
    }
    for (const struct dirent *entry = readdir(stream); entry != NULL; entry = readdir(stream)) {
        if (entry->d_name[0] != '.' && fits(entry->d_name) &&
            (out[0] == 0 || strcmp(entry->d_name, out) < 0)) {
            snprintf(out, NAME_SIZE, "%s", entry->d_name);
        }
    }
    closedir(stream);
    return out[0] != 0;
}

static bool is_gguf(const char *name) {
    return ends_with(name, ".gguf");
}

static bool is_pickle(const char *name) {
    return (ends_with(name, ".bin") && starts_with(name, "pytorch_model")) || ends_with(name, ".pth") ||
           ends_with(name, ".pt") || ends_with(name, ".ckpt");
}

static bool is_safetensors(const char *name) {
    return ends_with(name, ".safetensors") && !starts_with(name, "adapter_");
}

static bool is_other_framework(const char *name) {
    return ends_with(name, ".msgpack") || ends_with(name, ".h5") || ends_with(name, ".onnx");
}

static bool is_cached_model(const char *name) {
    return starts_with(name, "models--");
}

static bool is_any(const char *name) {
    return name[0] != 0;
}

static bool is_tokenizer_file(const char *name) {
    static const char *const names[] = {"vocab.json",  "merges.txt", "tokenizer.model",
                                        "tekken.json", "vocab.txt",  "spiece.model"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return ends_with(name, ".tiktoken");
}

// The first folder in it that is a model's.
static bool find_model(char out[PATH_SIZE], const char *folder) {
    struct error ignored;
    DIR *stream = opendir(folder);
    const struct dirent *entry;
    bool found = false;
    while (stream != NULL && !found && (entry = readdir(stream)) != NULL) {
        found = entry->d_name[0] != '.' &&
                path_join(out, PATH_SIZE, folder, entry->d_name, &ignored) == STATUS_OK &&
                model_has_file(out, "config.json");
    }
    if (stream != NULL) {
        closedir(stream);
    }
    return found;
}

// ---- is it a folder ----

static bool is_hub_part(const char *text, size_t length) {
    static const char others[] = "-_.";
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && strchr(others, c) == NULL) {
            return false;
        }
    }
    return length > 0 && text[0] != '.';
}

// ORG/NAME, as the Hub names models.
static bool is_hub_name(const char *text) {
    size_t first = strcspn(text, "/");
    const char *second = text + first + (text[first] == '/');
    return text[first] == '/' && strchr(second, '/') == NULL && is_hub_part(text, first) &&
           is_hub_part(second, strlen(second));
}

// As the job file has it; of an address on the Hub its ORG/NAME.
static void as_written(char out[PATH_SIZE], const char *path, const char *job_folder) {
    size_t length = strlen(job_folder);
    const char *written =
        strncmp(path, job_folder, length) == 0 && path[length] == '/' ? path + length + 1 : path;
    const char *scheme = strstr(written, "://");
    snprintf(out, PATH_SIZE, "%s", written);
    if (scheme == NULL || scheme - written > 8) {
        return;
    }
    const char *host = scheme + 3;
    const char *slash = strchr(host, '/');
    bool has_host = strncmp(written, "http", 4) == 0 && slash != NULL;
    snprintf(out, PATH_SIZE, "%s", has_host ? slash + 1 : host);
    size_t organisation = strcspn(out, "/");
    size_t name = out[organisation] == 0 ? 0 : strcspn(out + organisation + 1, "/?#");
    out[organisation + (name > 0) + name] = 0; // without /tree/main
}

static int is_a_file(const char *path, struct error *err) {
    if (ends_with(path, ".safetensors")) {
        return error_set(
            err, STATUS_DATA,
            "%s is one file of a checkpoint: model.path is the folder that holds it with config.json and "
            "tokenizer.json",
            path);
    }
    TRY(first_bytes_check_file(path, FIRST_BYTES_PATH, err));
    if (ends_with(path, "/config.json") || ends_with(path, "/tokenizer.json")) {
        return error_set(err, STATUS_DATA,
                         "%s is one file of a model: model.path is the folder that holds it", path);
    }
    return error_set(err, STATUS_DATA, "%s is a file, neither a model's folder nor a GGUF file", path);
}

// Which snapshot of a model's top folder in the Hub's cache the branch main is at, or the only one; "" when
// they are gone.
static int find_snapshot(char name[NAME_SIZE], const char *path, struct error *err) {
    char snapshots[PATH_SIZE];
    char main_branch[PATH_SIZE];
    struct buffer text = {0};
    struct error ignored;
    name[0] = 0;
    TRY(path_join(snapshots, sizeof snapshots, path, "snapshots", err));
    TRY(path_join(main_branch, sizeof main_branch, path, "refs/main", err));
    if (file_read(&text, main_branch, NAME_SIZE - 1, &ignored) == STATUS_OK && text.data != NULL) {
        text.data[strcspn(text.data, "\r\n")] = 0;
        bool good = is_hub_part(text.data, strlen(text.data)) && model_has_file(snapshots, text.data);
        snprintf(name, NAME_SIZE, "%.*s", NAME_SIZE - 1, good ? text.data : "");
    }
    buffer_destroy(&text);
    if (name[0] == 0) {
        find_name(name, snapshots, is_any);
    }
    return STATUS_OK;
}

static int is_cache(const char *path, struct error *err) {
    char name[NAME_SIZE];
    TRY(find_snapshot(name, path, err));
    if (name[0] == 0) {
        return error_set(
            err, STATUS_DATA,
            "%s is a model's folder in the Hub's cache, and its snapshots are gone: `hf download` gets it "
            "again",
            path);
    }
    return error_set(
        err, STATUS_DATA,
        "%s is a model's top folder in the Hub's cache; the model itself is in %s/snapshots/%s: let "
        "model.path name that",
        path, path, name);
}

// The snapshot of ORG/NAME that the Hub's cache of this user has; false when it has none.
static bool is_cached(char out[PATH_SIZE], const char *hub_name) {
    char folder[PATH_SIZE];
    char snapshot[NAME_SIZE];
    struct error ignored;
    const char *hub = getenv("HF_HUB_CACHE");
    const char *home = getenv("HF_HOME");
    const char *user = getenv("HOME");
    int length = hub != NULL ? snprintf(folder, sizeof folder, "%s", hub)
                 : home != NULL
                     ? snprintf(folder, sizeof folder, "%s/hub", home)
                     : snprintf(folder, sizeof folder, "%s/.cache/huggingface/hub", user == NULL ? "" : user);
    size_t first = strcspn(hub_name, "/");
    if (length >= (int)sizeof folder) {
        return false;
    }
    length += snprintf(folder + length, sizeof folder - (size_t)length, "/models--%.*s--%s", (int)first,
                       hub_name, hub_name + first + 1);
    return length < (int)sizeof folder && find_snapshot(snapshot, folder, &ignored) == STATUS_OK &&
           snapshot[0] != 0 && snprintf(out, PATH_SIZE, "%s/snapshots/%s", folder, snapshot) < PATH_SIZE;
}

static int not_there(const char *path, const char *job_folder, struct error *err) {
    char written[PATH_SIZE];
    as_written(written, path, job_folder);
    struct stat info;
    if (lstat(path, &info) == 0) {
        return error_set(err, STATUS_DATA, "%s is a link to something that is not there", path);
    }
    if (written[0] == '~' || written[0] == '$') {
        return error_set(err, STATUS_DATA,
                         "there is no folder %s: in a job file %c is not expanded, write the whole path",
                         path, written[0]);
    }
    char beside[PATH_SIZE];
    char inside[PATH_SIZE];
    if (path_folder(beside, sizeof beside, path, err) == STATUS_OK && find_model(inside, beside)) {
        return error_set(err, STATUS_DATA, "there is no folder %s; a model's folder beside it is %s", path,
                         inside);
    }
    if (is_hub_name(written)) {
        const char *name = strchr(written, '/') + 1;
        char cached[PATH_SIZE];
        if (is_cached(cached, written)) {
            return error_set(
                err, STATUS_DATA,
                "there is no folder %s; the Hub's cache on this machine has '%s': let model.path name %s",
                path, written, cached);
        }
        return error_set(err, STATUS_DATA,
                         "there is no folder %s; '%s' looks like a model's name on the Hub, but " DOWNLOADS
                         ": `hf download %s --local-dir models/%s` gets it, model.path is then models/%s",
                         path, written, written, name, name);
    }
    if (is_gguf(path)) {
        return error_set(err, STATUS_DATA, "there is no file %s, and " DOWNLOADS, path);
    }
    return error_set(err, STATUS_DATA,
                     "there is no folder %s, and " DOWNLOADS
                     ": `hf download ORG/NAME --local-dir FOLDER` gets a model "
                     "from the Hub",
                     path);
}

int model_folder_find(const char *path, const char *job_folder, struct error *err) {
    enum model_form form;
    char name[NAME_SIZE];
    TRY(model_form(path, &form, err));
    if (form == MODEL_FORM_NONE) {
        return not_there(path, job_folder, err);
    }
    if (form == MODEL_FORM_GGUF) {
        return STATUS_OK;
    }
    if (form == MODEL_FORM_FILE) {
        return is_a_file(path, err);
    }
    if (form == MODEL_FORM_OTHER) {
        return error_set(err, STATUS_DATA, "%s is not a folder", path);
    }
    if (model_has_part(path, MODEL_CONFIG)) {
        return STATUS_OK;
    }
    if (model_has_file(path, "snapshots")) {
        return is_cache(path, err);
    }
    if (find_name(name, path, is_cached_model)) {
        return error_set(
            err, STATUS_DATA,
            "%s is the Hub's cache: a model is in models--ORG--NAME/snapshots/REVISION of it (there is %s)",
            path, name);
    }
    return STATUS_OK;
}

// ---- what is in it ----

// "of BASE" where the adapter says which model it belongs to.
static void adapter_base(char *out, size_t size, const char *folder) {
    char path[PATH_SIZE];
    struct error ignored;
    json_t *json = NULL;
    const char *base = NULL;
    out[0] = 0;
    if (path_join(path, sizeof path, folder, ADAPTER_CONFIG, &ignored) == STATUS_OK &&
        json_parse_file(&json, path, ADAPTER_LIMIT, &ignored) == STATUS_OK &&
        json_get_string(json, "base_model_name_or_path", &base, &ignored) == STATUS_OK && base != NULL) {
        snprintf(out, size, " of %.200s", base);
    }
    json_decref(json);
}

static bool same_folder(const char *a, const char *b) {
    struct stat of_a;
    struct stat of_b;
    return stat(a, &of_a) == 0 && stat(b, &of_b) == 0 && of_a.st_dev == of_b.st_dev &&
           of_a.st_ino == of_b.st_ino;
}

static int refuse_adapter(const char *folder, struct error *err) {
    char base[NAME_SIZE];
    adapter_base(base, sizeof base, folder);
    return model_has_part(folder, MODEL_CONFIG)
               ? error_set(err, STATUS_DATA,
                           "%s holds an adapter%s (adapter_config.json), which transformers applies where "
                           "peft is installed: `model.adapter: %s` merges it into the model, and without "
                           "adapter_config.json in the folder the model is computed as it is",
                           folder, base, folder)
               : error_set(
                     err, STATUS_DATA,
                     "%s holds an adapter%s (adapter_config.json) and no model: let model.path name the "
                     "model, and `model.adapter: %s` merges the adapter into it",
                     folder, base, folder);
}

// A file of the language model that may be named: no projector of images, no later part of a split one.
static bool is_gguf_model(const char *name) {
    const char *of = strstr(name, "-of-");
    bool later = of != NULL && of - name >= 6 && of[-6] == '-' && strncmp(of - 5, "00001", 5) != 0;
    return is_gguf(name) && strstr(name, "mmproj") == NULL && !later;
}

// `first` of those that end so; several are several quantisations of one model.
static int choose_gguf(const char *folder, const char *lacks, char first[NAME_SIZE], struct error *err) {
    struct buffer others = {0};
    find_name(first, folder, is_gguf_model);
    DIR *stream = opendir(folder);
    const struct dirent *entry;
    while (stream != NULL && (entry = readdir(stream)) != NULL && others.size < 400) {
        if (entry->d_name[0] != '.' && is_gguf_model(entry->d_name) && strcmp(entry->d_name, first) != 0 &&
            buffer_printf(&others, err, "%s%s", others.size == 0 ? "" : ", ", entry->d_name) != STATUS_OK) {
            break;
        }
    }
    if (stream != NULL) {
        closedir(stream);
    }
    error_set(err, STATUS_DATA,
              "%s holds GGUF (%s) and %s: a GGUF file is a model by itself, model.path is then %s/%s%s%s",
              folder, first, lacks, folder, first, others.size == 0 ? "" : ", or of the same folder ",
              others.size == 0 ? "" : others.data);
    buffer_destroy(&others);
    return STATUS_DATA;
}

static int describe_without_config(const char *folder, struct error *err) {
    char name[NAME_SIZE];
    char inside[PATH_SIZE];
    if (find_name(name, folder, is_gguf)) {
        return choose_gguf(folder, "no config.json", name, err);
    }
    if (model_has_file(folder, "params.json")) {
        return error_set(err, STATUS_DATA,
                         "%s holds params.json and no config.json: it is the maker's own format; get the one "
                         "for transformers "
                         "(on the Hub often the same repository)",
                         folder);
    }
    if (!find_name(name, folder, is_any)) {
        return error_set(err, STATUS_DATA, "%s is empty", folder);
    }
    if (find_model(inside, folder)) {
        return error_set(err, STATUS_DATA,
                         "%s holds no config.json, but a model's folder: let model.path name %s", folder,
                         inside);
    }
    return error_set(
        err, STATUS_DATA,
        "%s holds no config.json (there is %s): model.path is the folder that transformers' save_pretrained "
        "writes",
        folder, name);
}

static int describe_without_weights(const char *folder, struct error *err) {
    static const char convert[] =
        "python3 -c \"import sys, transformers as t; t.AutoModelForCausalLM.from_pretrained(sys.argv[1], "
        "dtype='auto').save_pretrained(sys.argv[1])\"";
    char name[NAME_SIZE];
    if (!find_name(name, folder, is_safetensors) && find_name(name, folder, is_gguf)) {
        return choose_gguf(folder, "neither model.safetensors nor model.safetensors.index.json", name, err);
    }
    const char *what = find_name(name, folder, is_safetensors)       ? "safetensors under another name"
                       : find_name(name, folder, is_pickle)          ? "PyTorch pickles"
                       : find_name(name, folder, is_other_framework) ? "weights of another framework"
                                                                     : NULL;
    if (what == NULL) {
        return error_set(err, STATUS_DATA,
                         "%s holds neither model.safetensors nor model.safetensors.index.json, and no "
                         "weights at all: was the "
                         "download complete?",
                         folder);
    }
    return error_set(
        err, STATUS_DATA,
        "%s holds neither model.safetensors nor model.safetensors.index.json, but %s (%s): get the model's "
        "safetensors, or make them: %s %s",
        folder, what, name, convert, folder);
}

// A snapshot of the Hub's cache is links into its blobs, which may be gone, or were not copied with it.
static bool leads_nowhere(const char *path) {
    struct stat info;
    return stat(path, &info) != 0 && lstat(path, &info) == 0 && S_ISLNK(info.st_mode);
}

static int refuse_link(const char *path, struct error *err) {
    return error_set(
        err, STATUS_DATA,
        "%s is a link to something that is not there: `hf download` gets it again, and of a copied "
        "snapshot `cp -rL` copies what the links lead to",
        path);
}

int model_folder_check(const char *path, const char *adapter, struct error *err) {
    enum model_form form;
    TRY(model_form(path, &form, err));
    if (form == MODEL_FORM_GGUF) {
        return STATUS_OK;
    }
    bool is_wanted = adapter != NULL && model_has_part(path, MODEL_CONFIG) && same_folder(path, adapter);
    if (model_has_file(path, ADAPTER_CONFIG) && !is_wanted) {
        return refuse_adapter(path, err);
    }
    char config[PATH_SIZE];
    TRY(model_part_path(config, path, MODEL_CONFIG, err));
    if (leads_nowhere(config)) {
        return refuse_link(config, err);
    }
    if (!model_has_part(path, MODEL_CONFIG)) {
        return describe_without_config(path, err);
    }
    if (!model_has_part(path, MODEL_WEIGHTS) && !model_has_part(path, MODEL_WEIGHTS_INDEX)) {
        return describe_without_weights(path, err);
    }
    return STATUS_OK;
}

int model_folder_check_tokenizer(const char *tokenizer, struct error *err) {
    char folder[PATH_SIZE];
    char name[NAME_SIZE];
    TRY(path_folder(folder, sizeof folder, tokenizer, err));
    if (file_exists(tokenizer)) {
        return STATUS_OK;
    }
    if (!file_exists(folder)) {
        return error_set(
            err, STATUS_DATA,
            "%s is not there, nor its folder: model.tokenizer names a tokenizer.json on this machine",
            tokenizer);
    }
    if (leads_nowhere(tokenizer)) {
        return refuse_link(tokenizer, err);
    }
    if (!find_name(name, folder, is_tokenizer_file)) {
        return error_set(
            err, STATUS_DATA,
            "%s is not there, and no other tokenizer's file beside it: was the download complete? "
            "(model.tokenizer may name another tokenizer.json)",
            tokenizer);
    }
    return error_set(err, STATUS_DATA,
                     "%s is not there, but %s, which strata does not read: make a tokenizer.json of it: "
                     "python3 -c \"import "
                     "sys, transformers as t; "
                     "t.AutoTokenizer.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[1])\" %s",
                     tokenizer, name, folder);
}

int model_folder_warnings(const char *path, const struct model_config *config, struct buffer *out,
                          struct error *err) {
    if (config->code[0] != 0) {
        TRY(buffer_printf(
            out, err,
            "config.json: auto_map names the folder's own code (%s)%s%s, which transformers runs with "
            "trust_remote_code=True; strata computes transformers' own %s\n",
            config->code, config->architecture[0] == 0 ? "" : " for ", config->architecture,
            config->model_type));
    }
    bool has_weights = model_has_file(path, ADAPTER_WEIGHTS) || model_has_file(path, "adapter_model.bin");
    if (has_weights && !model_has_file(path, ADAPTER_CONFIG)) {
        TRY(buffer_printf(
            out, err,
            "weights of an adapter (adapter_model) lie in the model's folder without adapter_config.json: "
            "they are not applied\n"));
    }
    return STATUS_OK;
}
