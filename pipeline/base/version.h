// SPDX-License-Identifier: MIT
// The program's version: equal to the one in CMakeLists.txt (a test compares them).
#ifndef STRATA_BASE_VERSION_H
#define STRATA_BASE_VERSION_H

#define STRATA_VERSION "0.1.0"

#endif
