/* What is counted and timed. */
#ifndef RTMPLOAD_MEASURE_H
#define RTMPLOAD_MEASURE_H

#include <stdint.h>

#include "base.h"
#include "samples.h"

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
