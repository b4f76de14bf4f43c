#include "text/machine_code.h"

#include <errno.h>

int machine_code_compile(pcre2_code *code, bool *compiled, struct error *err) {
    errno = 0;
    int result = pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
    *compiled = result == 0;
    return result == PCRE2_ERROR_NOMEMORY && errno == ENOMEM
               ? error_set(err, STATUS_INTERNAL, "out of memory for a pattern's machine code")
               : STATUS_OK;
}
