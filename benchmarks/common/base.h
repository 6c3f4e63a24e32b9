/* What every file of the load generators needs: the clock, the one way to fail, byte order. */
#ifndef BENCH_BASE_H
#define BENCH_BASE_H

#include <stddef.h>
#include <stdint.h>

#define NS_PER_SECOND 1000000000ULL
#define NS_PER_MS 1000000ULL

/* CLOCK_MONOTONIC in nanoseconds: the same clock in every process of this machine, so that a stamp written by one
 * generator can be read by another. */
uint64_t now_ns(void);

/* Tells the reason as a JSON line on standard output and ends the process with status 1. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* realloc() that ends the process instead of returning NULL. */
void *reallocate(void *memory, size_t size);

static inline uint32_t read_be(const uint8_t *data, size_t size)
{
    uint32_t value = 0;
    for (size_t i = 0; i < size; i++)
        value = value << 8 | data[i];
    return value;
}

static inline void write_be(uint8_t *data, size_t size, uint32_t value)
{
    while (size-- > 0) {
        data[size] = (uint8_t)value;
        value >>= 8;
    }
}

#endif
