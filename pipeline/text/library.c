// SPDX-License-Identifier: MIT
#include "text/library.h"

#include <errno.h>
#include <stdio.h>
#include <utf8proc.h>

#include "text/tokenizer.h"

int library_compile(pcre2_code *code, bool *compiled, struct error *err) {
    errno = 0;
    int result = pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
    *compiled = result == 0;
    return result == PCRE2_ERROR_NOMEMORY && errno == ENOMEM
               ? error_set(err, STATUS_INTERNAL, "out of memory for a pattern's machine code")
               : STATUS_OK;
}

const char *tokenizer_library(char out[TOKENIZER_LIBRARY]) {
    char pcre2[64] = "?"; // "10.42 2022-12-11"; the sizes are what PCRE2 says it needs, with room to spare
    char unicode[64] = "?";
    if (pcre2_config(PCRE2_CONFIG_VERSION, NULL) < (int)sizeof pcre2) {
        pcre2_config(PCRE2_CONFIG_VERSION, pcre2);
    }
    if (pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, NULL) < (int)sizeof unicode) {
        pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, unicode);
    }
    snprintf(out, TOKENIZER_LIBRARY, "pcre2 %.20s, Unicode %.12s; utf8proc %.12s, Unicode %.12s", pcre2,
             unicode, utf8proc_version(), utf8proc_unicode_version());
    return out;
}
