// SPDX-License-Identifier: MIT
#include "model/quantization.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/names.h"
#include "model/quantization_schemes.h"

enum { LARGEST_GROUP = 1 << 24 };

static int read_size(const struct values *map, const char *key, size_t *out, struct error *err) {
    int64_t value = (int64_t)*out;
    TRY(values_integer(map, key, 1, LARGEST_GROUP, &value, err));
    *out = (size_t)value;
    return STATUS_OK;
}

// Columns that share a scale; -1 says all. The key may have an older name.
static int read_group(struct quantization *out, const struct values *map, const char *key,
                      struct error *err) {
    int64_t group = 128;
    TRY(values_integer(map, key, -1, LARGEST_GROUP, &group, err));
    if (group == 0) {
        return error_set(err, STATUS_DATA, "'%s' is 0; it is a number of columns, or -1 for all", key);
    }
    out->group = group < 0 ? 0 : (size_t)group;
    return STATUS_OK;
}

// The first of the keys that is there.
static const char *known_as(const struct values *map, const char *key, const char *other) {
    return !values_has(map, key) && values_has(map, other) ? other : key;
}

// ---- one function a method ----

static int read_awq(struct quantization *out, const struct values *map, struct error *err) {
    const char *bits = known_as(map, "bits", "w_bit");
    const char *version = known_as(map, "version", known_as(map, "checkpoint_format", "format"));
    const char *layout = "gemm";
    out->bits = 4;
    TRY(read_size(map, bits, &out->bits, err));
    if (out->bits != 4) {
        return error_set(err, STATUS_DATA, "'%s' is %zu; of AWQ only 4 is supported", bits, out->bits);
    }
    TRY(values_text(map, version, &layout, err));
    if (strcasecmp(layout, "gemm") != 0) {
        return error_set(
            err, STATUS_DATA,
            "'%s' is '%.64s', another layout of codes than gemm's, which alone is supported: get "
            "a checkpoint that was saved with version gemm",
            version, layout);
    }
    const char *backend = "auto";
    TRY(values_text(map, "backend", &backend, err));
    if (strcasecmp(backend, "llm-awq") == 0) {
        return error_set(err, STATUS_DATA,
                         "'backend' is '%.64s', whose layout of codes is not supported: get a checkpoint "
                         "that was saved with version gemm",
                         backend);
    }
    return read_group(out, map, known_as(map, "group_size", "q_group_size"), err);
}

static int read_gptq_layout(struct quantization *out, const struct values *map, struct error *err) {
    const char *key = known_as(map, "checkpoint_format", "format");
    const char *layout = "gptq";
    bool marlin = false;
    TRY(values_text(map, key, &layout, err));
    TRY(values_boolean(map, "is_marlin_format", &marlin, err));
    out->gptq_v2 = strcasecmp(layout, "gptq_v2") == 0;
    if (marlin || (!out->gptq_v2 && strcasecmp(layout, "gptq") != 0)) {
        return error_set(err, STATUS_DATA,
                         "'%s' is '%.64s', whose layout of codes is not supported: get a checkpoint in the "
                         "format gptq or gptq_v2",
                         marlin ? "is_marlin_format" : key, marlin ? "true" : layout);
    }
    return STATUS_OK;
}

// Settings of a module that a pattern is of. Those that cannot be read are left out: if a module has them,
// its tensors fit no others.
static int read_override(struct quantization *out, const struct values *overrides, const char *pattern,
                         struct error *err) {
    struct quantization own = *out; // the defaults are those of all
    struct values map = values_member(overrides, pattern);
    if (values_kind(overrides, pattern) != VALUE_MAP) {
        return error_set(err, STATUS_DATA, "the value is not an object");
    }
    TRY(read_size(&map, "bits", &own.bits, err));
    TRY(values_boolean(&map, "desc_act", &own.gptq_by_order, err));
    if (values_has(&map, "group_size")) {
        TRY(read_group(&own, &map, "group_size", err));
    }
    const struct quantization_setting setting = {own.bits, own.group, own.gptq_by_order};
    for (size_t i = 0; i < out->gptq_setting_count; i++) {
        const struct quantization_setting *known = &out->gptq_settings[i];
        if (known->bits == setting.bits && known->group == setting.group &&
            known->by_order == setting.by_order) {
            return STATUS_OK;
        }
    }
    if (setting.bits != 4 && setting.bits != 8) {
        return STATUS_OK;
    }
    if (out->gptq_setting_count == QUANTIZATION_SCHEMES) {
        return error_set(err, STATUS_DATA, "more than %d different settings are not supported",
                         QUANTIZATION_SCHEMES);
    }
    out->gptq_settings[out->gptq_setting_count++] = setting;
    return STATUS_OK;
}

// Patterns of modules, after "-:" of such as are not packed. Which module has which settings, its tensors
// tell.
static int read_overrides(struct quantization *out, const struct values *map, struct error *err) {
    struct values overrides = values_member(map, "dynamic");
    if (values_kind(map, "dynamic") != VALUE_MAP) {
        return STATUS_OK;
    }
    out->gptq_overrides = values_count(&overrides) > 0;
    for (const char *pattern = values_next_key(&overrides, NULL); pattern != NULL;
         pattern = values_next_key(&overrides, pattern)) {
        if (strncmp(pattern, "-:", 2) != 0 && read_override(out, &overrides, pattern, err) != STATUS_OK) {
            return error_wrap(err, "'dynamic': '%.64s'", pattern);
        }
    }
    return STATUS_OK;
}

static int read_gptq(struct quantization *out, const struct values *map, struct error *err) {
    TRY(read_size(map, "bits", &out->bits, err));
    if (out->bits == 0) {
        return error_set(err, STATUS_DATA, "'bits' is missing");
    }
    if (out->bits != 4 && out->bits != 8) {
        return error_set(err, STATUS_DATA,
                         "'bits' is %zu; of GPTQ 4 and 8 are supported: get a checkpoint of one of them",
                         out->bits);
    }
    TRY(read_gptq_layout(out, map, err));
    TRY(values_boolean(map, "desc_act", &out->gptq_by_order, err));
    TRY(read_group(out, map, "group_size", err));
    return read_overrides(out, map, err);
}

static int read_bitsandbytes(struct quantization *out, const struct values *map, struct error *err) {
    bool four = false;
    bool eight = false;
    TRY(values_boolean(map, "load_in_4bit", &four, err));
    TRY(values_boolean(map, "load_in_8bit", &eight, err));
    if (four == eight) {
        return error_set(err, STATUS_DATA, "%s of 'load_in_4bit' and 'load_in_8bit' %s true",
                         four ? "both" : "neither", four ? "are" : "is");
    }
    out->bits = four ? 4 : 8;
    return STATUS_OK;
}

static int read_fp8(struct quantization *out, const struct values *map, struct error *err) {
    const char *type = "e4m3";
    TRY(values_text(map, "fmt", &type, err));
    if (strcmp(type, "e4m3") != 0) {
        return error_set(err, STATUS_DATA, "'fmt' is '%.64s'; of float8 only e4m3 is supported", type);
    }
    return schemes_read_block(map, "weight_block_size", &out->block_rows, &out->block_columns, err);
}

// The tensors tell all there is.
static int read_nothing(struct quantization *out, const struct values *map, struct error *err) {
    (void)out;
    (void)map;
    (void)err;
    return STATUS_OK;
}

// ---- which method ----

static const struct method {
    const char *name;
    enum quantization_method method;
    int (*read)(struct quantization *out, const struct values *map, struct error *err);
} methods[] = {
    {"awq", QUANTIZATION_AWQ, read_awq},
    {"gptq", QUANTIZATION_GPTQ, read_gptq},
    {"bitsandbytes", QUANTIZATION_BITSANDBYTES, read_bitsandbytes},
    {"fp8", QUANTIZATION_FP8, read_fp8},
    {"compressed-tensors", QUANTIZATION_COMPRESSED_TENSORS, schemes_read},
    {"mxfp4", QUANTIZATION_MXFP4, read_nothing},
};

enum { METHODS = sizeof methods / sizeof methods[0] };

static int refuse_method(const char *name, struct error *err) {
    static const struct {
        const char *method;
        const char *instead;
    } known[] = {
        {"auto-round", "export the model in the format auto_gptq or auto_awq"},
        {"intel/auto-round", "export the model in the format auto_gptq or auto_awq"},
        {"fbgemm_fp8", "get a checkpoint whose method is fp8, or compressed-tensors in the format "
                       "float-quantized"},
        {"gguf", "give the GGUF file itself as model.path"},
    };
    const char *instead = "get the model's own weights (bfloat16, float16 or float32), or a checkpoint of a "
                          "supported method";
    char names[METHODS * sizeof "compressed-tensors, "] = "";
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        instead = strcasecmp(name, known[i].method) == 0 ? known[i].instead : instead;
    }
    for (size_t i = 0; i < METHODS; i++) {
        names_append(names, sizeof names, methods[i].name, i, METHODS);
    }
    return error_set(err, STATUS_DATA, "the method '%.64s' is not supported (supported are %s): %s", name,
                     names, instead);
}

// transformers takes the two flags for bitsandbytes, whatever the method's name.
static int name_of(const struct values *map, const char **out, struct error *err) {
    bool four = false;
    bool eight = false;
    *out = NULL;
    TRY(values_text(map, "quant_method", out, err));
    TRY(values_boolean(map, "load_in_4bit", &four, err));
    TRY(values_boolean(map, "load_in_8bit", &eight, err));
    if (*out == NULL && (four || eight)) {
        *out = "bitsandbytes";
    }
    if (*out == NULL) {
        return error_set(err, STATUS_DATA, "'quant_method' is missing");
    }
    if ((four || eight) && strcmp(*out, "bitsandbytes") != 0) {
        return error_set(err, STATUS_DATA,
                         "'quant_method' is '%.64s', but '%s' is true, which is bitsandbytes'", *out,
                         four ? "load_in_4bit" : "load_in_8bit");
    }
    return STATUS_OK;
}

static int read_map(struct quantization *out, const struct values *map, struct error *err) {
    const char *name;
    TRY(name_of(map, &name, err));
    for (size_t i = 0; i < METHODS; i++) {
        if (strcmp(name, methods[i].name) == 0) {
            out->method = methods[i].method;
            snprintf(out->name, sizeof out->name, "%s", name);
            int status = methods[i].read(out, map, err);
            return status == STATUS_OK ? STATUS_OK : error_wrap(err, "%s", name);
        }
    }
    return refuse_method(name, err);
}

int quantization_read(struct quantization *out, const struct values *config, struct error *err) {
    static const char *const keys[] = {"quantization_config", "compression_config"};
    *out = (struct quantization){0};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (!values_has(config, keys[i])) {
            continue;
        }
        if (values_kind(config, keys[i]) != VALUE_MAP) {
            return error_set(err, STATUS_DATA, "'%s' is not an object", keys[i]);
        }
        struct values map = values_member(config, keys[i]);
        int status = read_map(out, &map, err);
        return status == STATUS_OK ? STATUS_OK : error_wrap(err, "'%s'", keys[i]);
    }
    return STATUS_OK;
}
