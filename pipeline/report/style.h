// SPDX-License-Identifier: MIT
// How a page looks, on paper white and on black, on a phone and on a wide screen.
#ifndef STRATA_REPORT_STYLE_H
#define STRATA_REPORT_STYLE_H

const char *report_style(void); // CSS

#endif
