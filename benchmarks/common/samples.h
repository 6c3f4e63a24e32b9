/* Durations, and what is told of them. */
#ifndef BENCH_SAMPLES_H
#define BENCH_SAMPLES_H

#include <stddef.h>
#include <stdint.h>

/* Durations in nanoseconds, all of them kept: a minute of 50,000 packets a second has 3 million, in 24 MB. */
struct samples {
    uint64_t *values;
    size_t count;
    size_t capacity;
};

void samples_add(struct samples *samples, uint64_t value);

/* Prints {"count": …, "p50_ms": …, "p99_ms": …, "max_ms": …}; sorts the samples. */
void samples_print(struct samples *samples);

#endif
