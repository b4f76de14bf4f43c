// SPDX-License-Identifier: MIT
#include "report/pca.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/random.h"

// SPACE directions are iterated for two that are wanted: the error shrinks by the ratio of the eigenvalue
// behind them to the wanted ones. Largest values, those that models give to a few dimensions, converge at
// once.
enum { SPACE = 6, WANTED = 2, ROUNDS = 60, SWEEPS = 30 };
#define SETTLED 1e-9 // relative change of the wanted eigenvalues from which on they are taken as found

struct basis {
    const float *vectors; // [rows, width], centred
    size_t rows, width;
    double *directions; // [SPACE, width]
    double *next;       // [SPACE, width]
    double values[SPACE];
};

static double dot(const double *a, const double *b, size_t count) {
    double parts[4] = {0};
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        for (size_t k = 0; k < 4; k++) {
            parts[k] += a[i + k] * b[i + k];
        }
    }
    for (; i < count; i++) {
        parts[0] += a[i] * b[i];
    }
    return (parts[0] + parts[1]) + (parts[2] + parts[3]);
}

static double along(const float *vector, const double *direction, size_t count) {
    double parts[4] = {0};
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        for (size_t k = 0; k < 4; k++) {
            parts[k] += (double)vector[i + k] * direction[i + k];
        }
    }
    for (; i < count; i++) {
        parts[0] += (double)vector[i] * direction[i];
    }
    return (parts[0] + parts[1]) + (parts[2] + parts[3]);
}

static int centre(float *vectors, size_t rows, size_t width, struct error *err) {
    double *mean = NULL;
    TRY(memory_zeroed(&mean, width, sizeof *mean, err));
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < width; j++) {
            mean[j] += (double)vectors[i * width + j];
        }
    }
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < width; j++) {
            vectors[i * width + j] = (float)((double)vectors[i * width + j] - mean[j] / (double)rows);
        }
    }
    free(mean);
    return STATUS_OK;
}

// Modified Gram-Schmidt, twice; a direction that depends on those before it becomes zeros.
static void orthonormalise(double *directions, size_t width) {
    for (size_t k = 0; k < SPACE; k++) {
        double *own = directions + k * width;
        double before = sqrt(dot(own, own, width));
        for (size_t pass = 0; pass < 2 * k; pass++) {
            const double *other = directions + pass % k * width;
            double share = dot(own, other, width);
            for (size_t j = 0; j < width; j++) {
                own[j] -= share * other[j];
            }
        }
        double length = sqrt(dot(own, own, width));
        bool depends = !(length > before * 1e-12);
        for (size_t j = 0; j < width; j++) {
            own[j] = depends ? 0 : own[j] / length;
        }
    }
}

// next = (X^T X) directions.
static void multiply(struct basis *basis) {
    size_t width = basis->width;
    for (size_t j = 0; j < SPACE * width; j++) {
        basis->next[j] = 0;
    }
    for (size_t i = 0; i < basis->rows; i++) {
        const float *vector = basis->vectors + i * width;
        for (size_t k = 0; k < SPACE; k++) {
            double share = along(vector, basis->directions + k * width, width);
            double *sum = basis->next + k * width;
            for (size_t j = 0; j < width; j++) {
                sum[j] += share * (double)vector[j];
            }
        }
    }
}

// Jacobi's rotations until a symmetric matrix is diagonal; the columns of `vectors` are its eigenvectors.
static void diagonalise(double matrix[SPACE][SPACE], double vectors[SPACE][SPACE]) {
    for (size_t i = 0; i < SPACE; i++) {
        for (size_t j = 0; j < SPACE; j++) {
            vectors[i][j] = i == j;
        }
    }
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        for (size_t p = 0; p < SPACE; p++) {
            for (size_t q = p + 1; q < SPACE; q++) {
                if (matrix[p][q] == 0) {
                    continue;
                }
                double angle = 0.5 * atan2(2 * matrix[p][q], matrix[q][q] - matrix[p][p]);
                double c = cos(angle);
                double s = sin(angle);
                for (size_t k = 0; k < SPACE; k++) {
                    double a = matrix[k][p];
                    double b = matrix[k][q];
                    matrix[k][p] = c * a - s * b;
                    matrix[k][q] = s * a + c * b;
                }
                for (size_t k = 0; k < SPACE; k++) {
                    double a = matrix[p][k];
                    double b = matrix[q][k];
                    matrix[p][k] = c * a - s * b;
                    matrix[q][k] = s * a + c * b;
                    a = vectors[k][p];
                    b = vectors[k][q];
                    vectors[k][p] = c * a - s * b;
                    vectors[k][q] = s * a + c * b;
                }
            }
        }
    }
}

// Turns the directions within their space to the eigenvectors of the covariance in it, the largest first, and
// leaves X^T X times these in basis->next.
static void turn(struct basis *basis) {
    double matrix[SPACE][SPACE];
    double vectors[SPACE][SPACE];
    double turned[SPACE];
    size_t order[SPACE];
    size_t width = basis->width;
    for (size_t i = 0; i < SPACE; i++) {
        for (size_t j = 0; j <= i; j++) {
            matrix[i][j] = dot(basis->directions + i * width, basis->next + j * width, width);
            matrix[j][i] = matrix[i][j];
        }
        order[i] = i;
    }
    diagonalise(matrix, vectors);
    for (size_t i = 0; i < SPACE; i++) {
        for (size_t j = i; j > 0 && matrix[order[j]][order[j]] > matrix[order[j - 1]][order[j - 1]]; j--) {
            size_t other = order[j];
            order[j] = order[j - 1];
            order[j - 1] = other;
        }
    }
    for (size_t k = 0; k < SPACE; k++) {
        basis->values[k] = matrix[order[k]][order[k]];
    }
    for (int which = 0; which < 2; which++) {
        double *block = which == 0 ? basis->directions : basis->next;
        for (size_t j = 0; j < width; j++) {
            for (size_t k = 0; k < SPACE; k++) {
                turned[k] = 0;
                for (size_t i = 0; i < SPACE; i++) {
                    turned[k] += vectors[i][order[k]] * block[i * width + j];
                }
            }
            for (size_t k = 0; k < SPACE; k++) {
                block[k * width + j] = turned[k];
            }
        }
    }
}

static void iterate(struct basis *basis) {
    double before[WANTED] = {0};
    uint64_t seed = 1;
    for (size_t j = 0; j < SPACE * basis->width; j++) { // no data are orthogonal to it but by chance
        basis->directions[j] = random_unit(&seed) - 0.5;
    }
    orthonormalise(basis->directions, basis->width);
    for (int round = 0; round < ROUNDS; round++) {
        multiply(basis);
        turn(basis);
        bool settled = true;
        for (size_t k = 0; k < WANTED; k++) {
            settled = settled && fabs(basis->values[k] - before[k]) <= SETTLED * fabs(basis->values[k]);
            before[k] = basis->values[k];
        }
        if (settled) {
            return;
        }
        double *former = basis->directions;
        basis->directions = basis->next;
        basis->next = former;
        orthonormalise(basis->directions, basis->width);
    }
    multiply(basis);
    turn(basis);
}

static void place_rows(struct pca *pca, const struct basis *basis) {
    double all = 0;
    for (size_t i = 0; i < basis->rows * basis->width; i++) {
        all += (double)basis->vectors[i] * (double)basis->vectors[i];
    }
    for (size_t k = 0; k < WANTED; k++) {
        double *direction = basis->directions + k * basis->width;
        double largest = 0;
        for (size_t j = 0; j < basis->width; j++) {
            largest = fabs(direction[j]) > fabs(largest) ? direction[j] : largest;
        }
        double value = basis->values[k] > 0 ? basis->values[k] : 0;
        bool there = all > 0 && value > all * 1e-14;
        pca->share[k] = there ? value / all : 0;
        for (size_t i = 0; i < basis->rows; i++) {
            double place = along(basis->vectors + i * basis->width, direction, basis->width);
            pca->place[i * WANTED + k] = !there ? 0 : largest < 0 ? -place : place;
        }
    }
}

int pca_fit(struct pca *pca, float *vectors, size_t rows, size_t width, struct error *err) {
    struct basis basis = {.vectors = vectors, .rows = rows, .width = width};
    int status;
    *pca = (struct pca){0};
    if (rows == 0 || width == 0) {
        return error_set(err, STATUS_INTERNAL, "no vectors to compare");
    }
    TRY_TO(done, status = memory_zeroed(&pca->place, rows, WANTED * sizeof *pca->place, err));
    TRY_TO(done, status = memory_zeroed(&basis.directions, width, SPACE * sizeof *basis.directions, err));
    TRY_TO(done, status = memory_zeroed(&basis.next, width, SPACE * sizeof *basis.next, err));
    TRY_TO(done, status = centre(vectors, rows, width, err));
    iterate(&basis);
    place_rows(pca, &basis);
done:
    free(basis.directions);
    free(basis.next);
    return status;
}

void pca_destroy(struct pca *pca) {
    free(pca->place);
    *pca = (struct pca){0};
}
