// What the process itself can be asked: its resident memory, and the machine's memory.
#ifndef STRATA_EXTRACT_MEASURE_H
#define STRATA_EXTRACT_MEASURE_H

#include <stdint.h>

uint64_t measure_memory(void);      // resident bytes of this process; 0 when unknown
uint64_t measure_memory_peak(void); // the most so far

#endif
