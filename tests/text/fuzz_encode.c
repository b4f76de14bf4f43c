// SPDX-License-Identifier: MIT
// libFuzzer: any text through two good tokenizers. The first byte picks one and the truncation.
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "text/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t fuzz_accepted; // inputs that were not refused: see fuzz_replay.c

// Characters with an unknown token, every normalizer, added tokens with every flag.
static const char chain[] =
    "{\"version\":\"1.0\",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},{"
    "\"type\":\"Lowercase\"},"
    "{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true},"
    "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\s{2,}\"},\"content\":\" \"},{\"type\":\"NFD\"}]},"
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":"
    "false},"
    "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\",\"split\":true}]},"
    "\"added_tokens\":[{\"id\":6,\"content\":\"<l>\",\"lstrip\":true,\"normalized\":false},"
    "{\"id\":7,\"content\":\"<r>\",\"rstrip\":true,\"normalized\":false},"
    "{\"id\":8,\"content\":\"word\",\"single_word\":true,\"normalized\":true}],"
    "\"model\":{\"type\":\"BPE\",\"unk_token\":\"?\",\"fuse_unk\":true,\"byte_fallback\":true,"
    "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"?\":3,\"_\":4,\"_a\":5},\"merges\":[\"a b\",\"_ a\"]}}";

// Raw bytes cut by Qwen2's pattern; unknown bytes are dropped into one token.
static const char bytes[] = "{\"version\":\"1.0\",\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{"
                            "\"type\":\"Sequence\",\"pretokenizers\":["
                            "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^"
                            "\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| "
                            "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|"
                            "\\\\s+\"},\"behavior\":\"Isolated\",\"invert\":false},"
                            "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"use_regex\":false}]},"
                            "\"post_processor\":{\"type\":\"ByteLevel\",\"trim_offsets\":true},"
                            "\"model\":{\"type\":\"BPE\",\"unk_token\":\"?\",\"vocab\":{\"a\":0,\"b\":1,"
                            "\"ab\":2,\"?\":3},\"merges\":[\"a b\"]}}";

// The steps of Falcon, which go on after ByteLevel, and sets of classes.
static const char spelled[] =
    "{\"version\":\"1.0\",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
    "{\"type\":\"Punctuation\",\"behavior\":\"Contiguous\"},{\"type\":\"ByteLevel\",\"add_prefix_space\":"
    "true},"
    "{\"type\":\"Digits\",\"individual_digits\":false},"
    "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[0-9][0-9][0-9]|[\\\\p{L}&&[^\\\\p{Han}a]]++\"},"
    "\"behavior\":"
    "\"Isolated\",\"invert\":false}]},\"post_processor\":{\"type\":\"ByteLevel\",\"trim_offsets\":true},"
    "\"model\":{\"type\":\"BPE\",\"unk_token\":\"?\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"?\":3,\"\u0120\":"
    "4,"
    "\"\u0120a\":5},\"merges\":[\"a b\",\"\u0120 a\"]}}";

enum { TOKENIZERS = 3 };

static void require(bool good) {
    if (!good) {
        __builtin_trap();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const documents[TOKENIZERS] = {chain, bytes, spelled};
    static struct tokenizer *tokenizers[TOKENIZERS];
    static struct tokenizer_scratch *scratches[TOKENIZERS];
    struct error err = {0};
    for (size_t i = 0; i < TOKENIZERS && tokenizers[i] == NULL; i++) {
        require(tokenizer_parse(&tokenizers[i], documents[i], strlen(documents[i]), "fuzz", &err) ==
                STATUS_OK);
        require(tokenizer_scratch_create(&scratches[i], tokenizers[i], &err) == STATUS_OK);
    }
    if (size == 0) {
        return 0;
    }
    struct encoding encoding;
    bool truncated = false;
    size_t which = data[0] % TOKENIZERS;
    size_t limit = data[0] / TOKENIZERS;
    const char *text = (const char *)data + 1;
    if (tokenizer_encode_truncated(tokenizers[which], scratches[which], text, size - 1, true, limit,
                                   &truncated, &encoding, &err) != STATUS_OK) {
        require(err.status == STATUS_DATA);
        return 0;
    }
    fuzz_accepted++;
    require(limit == 0 || encoding.count <= limit);
    for (size_t i = 0; i < encoding.count; i++) {
        require(encoding.start[i] <= encoding.end[i] && encoding.end[i] <= size - 1);
        require(encoding.first[i] >= 0 && (i == 0 || encoding.first[i] >= encoding.first[i - 1]));
    }
    return 0;
}
