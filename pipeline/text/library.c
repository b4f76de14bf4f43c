#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <utf8proc.h>

#include "text/tokenizer.h"

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
