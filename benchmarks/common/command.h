/* What comes from the one who started the program: numbers and addresses on the command line, lines on standard input. */
#ifndef BENCH_COMMAND_H
#define BENCH_COMMAND_H

#include <netinet/in.h>

/* The number of an option, from 1 to most; anything else ends the process. */
unsigned parse_number(const char *option, const char *text, unsigned long most);

/* The address of an option, IP:PORT with an IPv4 address; anything else ends the process. */
struct sockaddr_in parse_address(const char *option, const char *text);

/* Reads what standard input has, and calls on_line with each line that is complete. Its end ends the process: that must
 * not outlive the one that started it. */
void read_lines(void (*on_line)(const char *line));

#endif
