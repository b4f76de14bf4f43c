// SPDX-License-Identifier: MIT
#include "base/terminal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

bool terminal_redraws(FILE *out) {
    const char *kind = getenv("TERM");
    return out != NULL && isatty(fileno(out)) == 1 && (kind == NULL || strcmp(kind, "dumb") != 0);
}

void terminal_size(FILE *out, int *columns, int *rows) {
    struct winsize size = {0};
    bool known = ioctl(fileno(out), TIOCGWINSZ, &size) == 0;
    *columns = known ? size.ws_col : 0;
    *rows = known ? size.ws_row : 0;
}

const char *terminal_colour(FILE *out, enum terminal_colour colour) {
    static const char *const escapes[] = {
        [TERMINAL_PLAIN] = "\033[0m", [TERMINAL_WARNING] = "\033[33m", [TERMINAL_FAILURE] = "\033[31m"};
    const char *refused = getenv("NO_COLOR");
    bool wanted = (refused == NULL || refused[0] == 0) && terminal_redraws(out);
    return wanted ? escapes[colour] : "";
}
