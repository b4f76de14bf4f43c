// SPDX-License-Identifier: MIT
// cmocka compares floats; figures of a plan are doubles.
#ifndef STRATA_TESTS_CLOSE_TO_H
#define STRATA_TESTS_CLOSE_TO_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define assert_close(found, expected, tolerance)                                                             \
    do {                                                                                                     \
        double found_ = (found);                                                                             \
        double expected_ = (expected);                                                                       \
        if (!(fabs(found_ - expected_) <= (tolerance))) {                                                    \
            fail_msg("%.12g is not %.12g", found_, expected_);                                               \
        }                                                                                                    \
    } while (0)

#endif
