#include "command.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base.h"

/* The longest line is a word and the path of a file. */
#define LINE_BYTES 4200

unsigned parse_number(const char *option, const char *text, unsigned long most)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno || *end || !value || value > most)
        die("%s %s: not a number from 1 to %lu", option, text, most);
    return (unsigned)value;
}

struct sockaddr_in parse_address(const char *option, const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    char host[INET_ADDRSTRLEN];
    const char *colon = strrchr(text, ':');
    if (!colon || (size_t)(colon - text) >= sizeof host)
        die("%s %s: not IP:PORT", option, text);
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = '\0';
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
        die("%s %s: not an IPv4 address", option, text);
    address.sin_port = htons((uint16_t)parse_number(option, colon + 1, 65535));
    return address;
}

void read_lines(void (*on_line)(const char *line))
{
    static char line[LINE_BYTES];
    static size_t size;
    ssize_t result = read(STDIN_FILENO, line + size, sizeof line - 1 - size);
    if (result <= 0)
        exit(0);
    size += (size_t)result;
    line[size] = '\0';
    for (char *end; (end = strchr(line, '\n')); memmove(line, end + 1, size + 1)) {
        *end = '\0';
        on_line(line);
        size -= (size_t)(end + 1 - line);
    }
    if (size == sizeof line - 1)
        die("a line too long on standard input");
}
