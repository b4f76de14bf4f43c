// SPDX-License-Identifier: MIT
// The progress line: what it says, and that it is never wider than the terminal.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "start/display.h"

static const struct display_state running = {.stage = "running",
                                             .done = 5123,
                                             .all = 21456,
                                             .unit = "problems",
                                             .rate = 212345,
                                             .seconds_left = 7265,
                                             .note = "17 shards sealed, some failed"};

static void says(const struct display_state *state, double elapsed, size_t columns, const char *words) {
    char line[DISPLAY_LINE];
    display_line(line, state, elapsed, columns);
    assert_string_equal(line, words);
}

static void test_words(void **state) {
    (void)state;
    says(&running, 2265, 0,
         "running     [######......................]  23.9 %  5123/21456 problems  2:01:05 left  212345 "
         "tokens/s  "
         "37:45 gone  17 shards sealed, some failed");
    says(&running, 2265, 100,
         "running     [###..........]  23.9 %  5123/21456 problems  2:01:05 left  212345 tokens/s  37:45 "
         "gone");
    says(&running, 2265, 80,
         "running     [#....]  23.9 %  5123/21456 problems  2:01:05 left  212345 tokens/s");
    says(&running, 2265, 60, "running       23.9 %  5123/21456 problems  2:01:05 left");
    struct display_state loading = {.stage = "loading",
                                    .done = 1230000000,
                                    .all = 16400000000,
                                    .unit = "GB",
                                    .unit_size = 1e9,
                                    .note = "1.02 GB/s"};
    says(&loading, 3, 80, "loading     [##..........................]   7.5 %  1.23/16.40 GB  1.02 GB/s");
    struct display_state device = running;
    device.device = "GPU 97 %, 71.2 GB, 645 W";
    says(&device, 2265, 160,
         "running     [###.............]  23.9 %  5123/21456 problems  2:01:05 left  212345 "
         "tokens/s  37:45 gone  17 shards sealed, some failed  GPU 97 %, 71.2 GB, 645 W");
    says(&device, 2265, 100,
         "running     [###..........]  23.9 %  5123/21456 problems  2:01:05 left  212345 tokens/s  37:45 "
         "gone");
    struct display_state reading = {.stage = "reading", .done = 4096, .unit = "problems"};
    says(&reading, 3, 80, "reading      4096 problems");
}

static void test_widths(void **state) {
    (void)state;
    static const uint64_t counts[] = {1, 999, 21456, 10000000, UINT64_MAX};
    char line[DISPLAY_LINE];
    for (size_t columns = 2; columns < 300; columns++) {
        for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
            struct display_state wide = running;
            wide.done = counts[i];
            wide.all = counts[i];
            wide.rate = (double)counts[i];
            wide.seconds_left = (double)counts[i];
            display_line(line, &wide, (double)counts[i], columns);
            assert_true(strlen(line) < columns);
            if (columns >= 40) {
                assert_non_null(strstr(line, "100.0 %"));
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_words), cmocka_unit_test(test_widths)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
