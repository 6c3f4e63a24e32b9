/* What is counted and timed. */
#ifndef RTMPLOAD_MEASURE_H
#define RTMPLOAD_MEASURE_H

#include <stddef.h>
#include <stdint.h>

#include "base.h"

/* Durations in nanoseconds, all of them kept: a run of 200 streams for a minute has 300,000. */
struct samples {
    uint64_t *values;
    size_t count;
    size_t capacity;
};

void samples_add(struct samples *samples, uint64_t value);

/* Prints {"count": …, "p50_ms": …, "p99_ms": …, "max_ms": …}; sorts the samples. */
void samples_print(struct samples *samples);

struct counters {
    uint64_t since; /* now_ns() of the mark */
    uint64_t sent_bytes;
    uint64_t received_bytes;
    uint64_t sent_messages;
    uint64_t late_messages; /* sent more than LATE_NS after they were due */
    uint64_t closed;        /* sessions that ended although they should not; never forgotten */
    struct samples latency;
};

#define LATE_NS (10 * NS_PER_MS)

#endif
