// SPDX-License-Identifier: MIT
// Matmuls of rows that meet different parts of a matrix of experts which is kept in another format: the parts
// that have rows are expanded into the device's scratch, as many as it holds, and multiplied there.
#include "base/size.h"
#include "kernels/cpu/gemm.h"

// Expands the parts of groups from *group on until scratch is full; *group becomes the next one. `used` parts
// are there then.
static int expand_some(struct cpu_device *cpu, struct device_matrix *expanded,
                       const struct device_matrix *matrix, const struct gemm_groups *groups,
                       uint16_t parts[DEVICE_EXPERTS_MOST], size_t *group, size_t *used, struct error *err) {
    size_t room = expanded->rows / groups->part_rows;
    *used = 0;
    for (size_t g = 0; g < groups->count; g++) {
        parts[g] = GEMM_NO_PART;
    }
    for (; *group < groups->count && *used < room; ++*group) {
        size_t first;
        size_t end;
        gemm_group_rows(groups, *group, &first, &end);
        if (first < end) {
            TRY(device_expand_rows(&cpu->base, expanded, *used * groups->part_rows, matrix,
                                   *group * groups->rows_each + groups->first, groups->end - groups->first,
                                   err));
            parts[*group] = (uint16_t)(*used)++;
        }
    }
    return STATUS_OK;
}

int gemm_multiply_packed(struct cpu_device *cpu, void *out, const void *x, const struct device_matrix *matrix,
                         const void *bias, const struct gemm_groups *groups, struct error *err) {
    uint16_t parts[DEVICE_EXPERTS_MOST]; // a matrix of experts has no more of them
    struct gemm_groups some = *groups;
    size_t one;
    some.parts = parts;
    some.part_rows = device_part_rows(groups->end - groups->first);
    if (!cpu_matrix_bytes(&cpu->base, some.part_rows, matrix->columns, &one) ||
        one > cpu->base.expansion_bytes) {
        return error_set(err, STATUS_INTERNAL,
                         "no scratch was planned to expand %zu experts' matrix of [%zu, %zu]", matrix->parts,
                         matrix->rows, matrix->columns);
    }
    struct device_matrix expanded = {.rows = cpu->base.expansion_bytes / one * some.part_rows,
                                     .columns = matrix->columns,
                                     .data = cpu->base.expansion};
    for (size_t group = 0; group < groups->count;) {
        size_t used;
        TRY(expand_some(cpu, &expanded, matrix, &some, parts, &group, &used, err));
        if (used > 0) {
            gemm_multiply_groups(cpu, out, x, &expanded, bias, &some);
        }
    }
    return STATUS_OK;
}
