#include "samples.h"

#include <stdio.h>
#include <stdlib.h>

#include "base.h"

void samples_add(struct samples *samples, uint64_t value)
{
    if (samples->count == samples->capacity) {
        samples->capacity = samples->capacity ? 2 * samples->capacity : 4096;
        samples->values = reallocate(samples->values, samples->capacity * sizeof *samples->values);
    }
    samples->values[samples->count++] = value;
}

static int compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static double percentile_ms(const struct samples *sorted, double fraction)
{
    if (!sorted->count)
        return 0;
    return (double)sorted->values[(size_t)(fraction * (double)(sorted->count - 1) + 0.5)] / NS_PER_MS;
}

void samples_print(struct samples *samples)
{
    if (samples->count)
        qsort(samples->values, samples->count, sizeof *samples->values, compare);
    printf("{\"count\": %zu, \"p50_ms\": %.4f, \"p99_ms\": %.4f, \"max_ms\": %.4f}", samples->count,
           percentile_ms(samples, 0.5), percentile_ms(samples, 0.99), percentile_ms(samples, 1.0));
}
