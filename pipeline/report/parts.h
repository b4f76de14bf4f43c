// SPDX-License-Identifier: MIT
// What a page says of a set of parts: the sums, and a table of the parts.
#ifndef STRATA_REPORT_PARTS_H
#define STRATA_REPORT_PARTS_H

#include "report/page.h"
#include "report/report.h"

void parts_show(struct page *page, const struct report_set *set);

#endif
