// SPDX-License-Identifier: MIT
// A program with the bugs that the sweep of shortages is there to find: it prints the words of a text, and
// one failed allocation makes it wrong in the way that its first argument names.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int give_up(const char *how) {
    if (strcmp(how, "data") == 0) { // takes a NULL for a fault of the text
        fputs("careless: the text is broken\n", stderr);
        return 65;
    }
    if (strcmp(how, "crash") == 0) {
        abort();
    }
    if (strcmp(how, "silent") == 0) {
        return 70;
    }
    if (strcmp(how, "talks") == 0) {
        fputs("careless: out of memory\ncareless: giving up\n", stderr);
        return 70;
    }
    return strcmp(how, "library") == 0 ? 255 : 0; // "wrong": leaves the word out
}

int main(int argc, char **argv) {
    static const char *const words[] = {"the", "sum", "of", "two", "numbers"};
    setvbuf(stdout, NULL, _IONBF, 0);
    for (size_t i = 0; argc > 1 && i < sizeof words / sizeof words[0]; i++) {
        char *copy = strdup(words[i]);
        if (copy != NULL) {
            puts(copy);
            free(copy);
        } else if (strcmp(argv[1], "wrong") != 0) {
            fflush(NULL);
            _exit(give_up(argv[1]));
        }
    }
    return 0;
}
