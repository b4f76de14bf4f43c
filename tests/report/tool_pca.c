// SPDX-License-Identifier: MIT
// Principal components of vectors: report_tool_pca ROWS WIDTH reads [ROWS, WIDTH] float32 from standard input
// and writes the two shares, then [ROWS, 2] places, as float64.
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "report/pca.h"

int main(int argc, char **argv) {
    struct error err = {0};
    struct pca pca;
    if (argc != 3) {
        return 64;
    }
    size_t rows = strtoull(argv[1], NULL, 10);
    size_t width = strtoull(argv[2], NULL, 10);
    float *vectors = calloc(rows * width, sizeof *vectors);
    if (vectors == NULL || fread(vectors, sizeof *vectors, rows * width, stdin) != rows * width ||
        pca_fit(&pca, vectors, rows, width, &err) != STATUS_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 70;
    }
    bool written = fwrite(pca.share, sizeof(double), 2, stdout) == 2 &&
                   fwrite(pca.place, sizeof(double), 2 * rows, stdout) == 2 * rows;
    pca_destroy(&pca);
    free(vectors);
    return written ? 0 : 73;
}
