// SPDX-License-Identifier: MIT
// Matrices that are kept in other formats than what is computed with: their rows, whatever pieces they lie
// in, to numbers.
#include "base/size.h"
#include "kernels/back_end.h"
#include "kernels/weight_format.h"

bool device_piece_view(const struct device_matrix *matrix, size_t copy, size_t piece,
                       struct weight_view *out) {
    const struct device_piece *own = &matrix->pieces[piece];
    const unsigned char *data = (const unsigned char *)own->data + copy * matrix->copy_bytes;
    return weight_view_of(device_piece_format(matrix, piece, copy), own->rows, matrix->columns, data, out);
}

// The rows that one piece has of those asked for; its own are rows [base, base + view->rows) of the matrix.
struct wanted {
    struct device_matrix *out;
    size_t to;
    size_t row;
    size_t end;
};

static int expand_piece(struct device *device, const struct wanted *wanted, const struct weight_view *view,
                        size_t base, struct error *err) {
    size_t first = size_max(wanted->row, base);
    size_t end = size_min(wanted->end, base + view->rows);
    return first >= end ? STATUS_OK
                        : device->ops->expand(device, wanted->out, wanted->to + first - wanted->row, view,
                                              first - base, end - first, err);
}

int device_expand_rows(struct device *device, struct device_matrix *out, size_t to,
                       const struct device_matrix *matrix, size_t row, size_t count, struct error *err) {
    const struct wanted wanted = {out, to, row, row + count};
    size_t copies = size_max(matrix->copies, 1);
    size_t copy_rows = matrix->rows / copies;
    for (size_t copy = row / copy_rows; copy < copies && copy * copy_rows < wanted.end; copy++) {
        size_t base = copy * copy_rows;
        for (size_t i = 0; i < matrix->piece_count; i++) {
            struct weight_view view;
            if (!device_piece_view(matrix, copy, i, &view)) {
                return error_set(err, STATUS_INTERNAL, "a piece of [%zu, %zu] overflows",
                                 matrix->pieces[i].rows, matrix->columns);
            }
            TRY(expand_piece(device, &wanted, &view, base, err));
            base += view.rows;
        }
    }
    return STATUS_OK;
}
