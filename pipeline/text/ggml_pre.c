#include "text/ggml_pre.h"

#include <string.h>

#include "text/tokenizer_internal.h"

// clang-format off
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define LINES_AND_SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LLAMA3 CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" \
               LINES_AND_SPACES
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define TEKKEN "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" \
               "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" LINES_AND_SPACES
#define HAN_AND_HANGUL "[\\x{4E00}-\\x{9FA5}\\x{0800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+"

// A name is here when all its rules are known to be those of tokenizer.json. "default", and files without a
// name, say nothing of how their merges were learned.
static const struct ggml_pre known[] = {
    {.name = "gpt-2", .byte_pattern = true},
    {.name = "llama-bpe", .patterns = {LLAMA3}, .ignore_merges = true, .add_bos = true},
    {.name = "llama3", .patterns = {LLAMA3}, .ignore_merges = true, .add_bos = true},
    {.name = "llama-v3", .patterns = {LLAMA3}, .ignore_merges = true, .add_bos = true},
    {.name = "qwen2", .patterns = {QWEN2_PATTERN}, .composes = true},
    {.name = "deepseek-r1-qwen", .patterns = {QWEN2_PATTERN}, .composes = true},
    {.name = "tekken", .patterns = {TEKKEN}, .ignore_merges = true, .add_bos = true},
    {.name = "smollm", .digits = true, .byte_pattern = true},
    {.name = "starcoder", .digits = true, .byte_pattern = true},
    {.name = "refact", .digits = true, .byte_pattern = true},
    {.name = "deepseek-coder", .patterns = {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", HAN_AND_HANGUL},
     .digits = true},
};
// clang-format on

const struct ggml_pre *ggml_pre_find(const char *name) {
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(known[i].name, name) == 0) {
            return &known[i];
        }
    }
    return NULL;
}

// The block as tokenizer.json has it; NULL when memory ran out.
static json_t *make_block(const struct ggml_pre *pre) {
    json_t *list = json_array();
    int failed = list == NULL;
    for (size_t i = 0; i < GGML_PRE_PATTERNS && pre->patterns[i] != NULL; i++) {
        failed |= json_array_append_new(list, json_pack("{s:s, s:{s:s}, s:s}", "type", "Split", "pattern",
                                                        "Regex", pre->patterns[i], "behavior", "Isolated"));
    }
    if (pre->digits) {
        failed |=
            json_array_append_new(list, json_pack("{s:s, s:b}", "type", "Digits", "individual_digits", 1));
    }
    failed |=
        json_array_append_new(list, json_pack("{s:s, s:b, s:b}", "type", "ByteLevel", "add_prefix_space",
                                              (int)pre->prefix_space, "use_regex", (int)pre->byte_pattern));
    if (failed) {
        json_decref(list);
        return NULL;
    }
    return json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", list);
}

int ggml_pre_load(struct pretokenizer *pretokenizer, const struct ggml_pre *pre, struct error *err) {
    json_t *block = make_block(pre);
    if (block == NULL) {
        return error_set(err, STATUS_INTERNAL, "out of memory for a pre-tokenizer");
    }
    int status = pretokenizer_load(pretokenizer, block, err);
    json_decref(block);
    return status;
}
