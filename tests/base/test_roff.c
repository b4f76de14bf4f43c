// SPDX-License-Identifier: MIT
// Text for manual pages: what man(7) would read otherwise is escaped, and nothing else changes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/roff.h"

static void gives(const char *text, size_t full, const char *expected) {
    char *made = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&made, &size);
    assert_non_null(out);
    if (full == 0) {
        roff_text(out, text);
    } else {
        roff_lines(out, text, full);
    }
    assert_int_equal(fclose(out), 0);
    assert_string_equal(made, expected);
    free(made);
}

static void test_text(void **state) {
    (void)state;
    gives("", 0, "");
    gives("--to FOLDER: 'a' \"b\"", 0, "\\-\\-to FOLDER: \\(aqa\\(aq \\(dqb\\(dq");
    gives(".npy, \\n ^~", 0, "\\&.npy, \\en \\(ha\\(ti");
    gives("\xc2\xb1 \xf0\x9d\x84\x9e", 0, "\\[u00B1] \\[u1D11E]");
    gives("a\xff\xc2", 0, "a??");
    gives("`key` and `", 0, "\\fBkey\\fR and \\(ga");
    gives("``", 0, "\\fB\\fR");
}

static void test_lines(void **state) {
    (void)state;
    gives("", 8, "");
    gives("ten letters\ngo on\nin a line\n", 8, "ten letters\ngo on\n.br\nin a line\n");
    gives("short\n\nnext\n", 8, "short\n.PP\nnext\n");
    gives("of:\n  a  1\n  b  2\n\nand\n", 8, "of:\n.nf\n\\&  a  1\n\\&  b  2\n.fi\n.PP\nand\n");
    gives("of:\n  a  1\nand", 8, "of:\n.nf\n\\&  a  1\n.fi\nand\n");
    gives("  a  1", 8, ".nf\n\\&  a  1\n.fi\n");
    gives("\n\n", 8, ".PP\n.PP\n");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
