// SPDX-License-Identifier: MIT
// What a page says of two runs: both along one axis of working time, and where their figures and identities
// differ.
#ifndef STRATA_REPORT_COMPARE_H
#define STRATA_REPORT_COMPARE_H

#include "report/content.h"
#include "report/page.h"

// seconds: the length of the axis.
void compare_show(struct page *page, const struct report_facts facts[2], const struct content contents[2],
                  double seconds);

#endif
