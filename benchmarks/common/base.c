#include "base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

void die(const char *format, ...)
{
    char reason[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    for (char *at = reason; *at; at++) /* a peer's own words may be part of the reason: keep the line valid JSON */
        if (*at == '"' || *at == '\\' || (unsigned char)*at < ' ' || (unsigned char)*at > '~')
            *at = '?';
    printf("{\"event\": \"error\", \"reason\": \"%s\"}\n", reason);
    exit(1);
}

void *reallocate(void *memory, size_t size)
{
    void *moved = realloc(memory, size);
    if (!moved)
        die("out of memory");
    return moved;
}
