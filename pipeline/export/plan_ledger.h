// The part of the plan that the ledger gives.
#ifndef STRATA_EXPORT_PLAN_LEDGER_H
#define STRATA_EXPORT_PLAN_LEDGER_H

#include "export/plan.h"

int export_plan_read_ledger(struct export_plan *plan, const struct export_request *request,
                            struct error *err);

#endif
