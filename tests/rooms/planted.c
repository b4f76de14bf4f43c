// SPDX-License-Identifier: MIT
// Compiled by includes.cmake with PLANTED naming a header that the room may or may not see.
#include PLANTED
