/* udpload: clients of WebRTC or SRT and the origin that they meet, in one thread.
 *
 * Of WebRTC it does not know how a session is signalled: it is given the STUN request that each session begins with.
 *
 * Standard output carries one JSON object a line: "ready" when all sessions are open, "report" when asked, "error" before
 * the process ends because of one. Standard input takes a command a line; its end ends the process:
 *
 *   open FILE  opens more sessions, one for each line of the file: the session's STUN request or stream id, in
 *              hexadecimal
 *   start      all sessions send from now on
 *   mark       counting starts anew
 *   report     what was sent since then, and what has arrived of that GRACE_NS later */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base.h"
#include "command.h"
#include "session.h"

#define EVENTS 128
/* How long what was sent may take to arrive. */
#define GRACE_NS (300 * NS_PER_MS)
/* How often it is looked whether there are requests to send. */
#define TICK_NS (10 * NS_PER_MS)
/* How many sessions wait to be open at a time. */
#define PARALLEL 16
/* Then the machine is too slow for the rate: what should have been sent in that time is not sent at all. */
#define MAX_BEHIND_NS (100 * NS_PER_MS)
/* How many bursts are sent before it is looked what has been received. */
#define EMITTED_AT_ONCE 16

static const char USAGE[] =
    "usage: udpload --target IP:PORT --origin PORT [options]\n"
    "  --target IP:PORT  where the clients send to\n"
    "  --origin PORT     where the origin is, on 127.0.0.1\n"
    "  --srt             publishers and players of SRT; sessions of WebRTC if not given\n"
    "  --rate N          packets per second that each session sends: of WebRTC in each direction, of SRT in one (50)\n"
    "  --burst N         how many of them are sent at once (1)\n";

static struct load load = {.protocol = &rtc};
static unsigned rate = 50, burst = 1;
static int timer, ticker, commands;
static bool announced = true; /* that all sessions are open */
static uint64_t report_at;    /* 0 if none was asked for */

/* ---- The schedule: each session sends at the same times of each period ---- */

struct slot {
    uint64_t offset;
    struct session *session;
    enum direction direction;
};

static struct slot *slots;
static size_t slot_count, next_slot;
static uint64_t period, period_start;

static int compare_offsets(const void *left, const void *right)
{
    uint64_t a = ((const struct slot *)left)->offset, b = ((const struct slot *)right)->offset;
    return (a > b) - (a < b);
}

/* A session's bursts in one direction: the first at a random time, as clients are, so that some fall together. */
static void schedule(struct session *session, enum direction direction, unsigned bursts, uint64_t interval)
{
    uint64_t first = (uint64_t)(drand48() * (double)period);
    slots = reallocate(slots, (slot_count + bursts) * sizeof *slots);
    for (unsigned i = 0; i < bursts; i++)
        slots[slot_count++] = (struct slot){(first + i * interval) % period, session, direction};
}

/* The times are the same in each run. */
static void start(void)
{
    unsigned pace = load.protocol->pace, bursts = pace ? rate / burst : 1;
    period = pace ? NS_PER_SECOND : NS_PER_SECOND * burst / rate;
    slot_count = next_slot = 0;
    srand48(1);
    for (uint32_t i = 0; i < load.count; i++)
        for (enum direction direction = 0; direction < DIRECTIONS; direction++)
            if (load.protocol->sends(load.sessions[i], direction))
                schedule(load.sessions[i], direction, bursts, NS_PER_SECOND * burst / (rate < pace ? pace : rate));
    qsort(slots, slot_count, sizeof *slots, compare_offsets);
    period_start = now_ns();
}

static uint64_t next_due(void)
{
    return period_start + slots[next_slot].offset;
}

static void send_due_packets(void)
{
    if (!slot_count)
        return;
    for (unsigned emitted = 0; emitted < EMITTED_AT_ONCE; emitted++) {
        uint64_t now = now_ns();
        if (next_due() > now)
            break;
        uint64_t behind = now - next_due();
        session_emit(slots[next_slot].session, slots[next_slot].direction, burst, behind > LATE_NS);
        if (behind > MAX_BEHIND_NS)
            period_start += behind;
        if (++next_slot == slot_count) {
            next_slot = 0;
            period_start += period;
        }
    }
    static uint64_t armed;
    uint64_t due = load.protocol->send_due(now_ns());
    if (next_due() < due)
        due = next_due();
    if (due == armed)
        return;
    armed = due;
    struct itimerspec at = {.it_value = {(time_t)(armed / NS_PER_SECOND), (long)(armed % NS_PER_SECOND)}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL); /* also forgets that it went off: no need to read it */
}

/* ---- Opening sessions ---- */

static uint8_t *parse_hex(const char *text, size_t *size)
{
    *size = strspn(text, "0123456789abcdef") / 2;
    uint8_t *bytes = reallocate(NULL, *size + 1);
    for (size_t i = 0; i < *size; i++) {
        const char digits[] = {text[2 * i], text[2 * i + 1], '\0'};
        bytes[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return bytes;
}

static void open_sessions(const char *path)
{
    FILE *file = fopen(path, "r");
    if (!file)
        die("%s: %s", path, strerror(errno));
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, file) > 0) {
        size_t size;
        uint8_t *request = parse_hex(line, &size);
        session_add(&load, request, size);
    }
    free(line);
    fclose(file);
    load.set_up.count = 0;
    announced = false;
}

/* Sessions are opened in the order of their numbers, a few at a time; those that are open ask again now and then. */
static void send_requests(void)
{
    uint64_t now = now_ns();
    for (uint32_t i = 0; i < load.count && i < load.open + PARALLEL; i++)
        session_ask(load.sessions[i], now);
    if (announced || load.open < load.count)
        return;
    announced = true;
    printf("{\"event\": \"ready\", \"sessions\": %u, \"set_up\": ", load.open);
    samples_print(&load.set_up);
    printf("}\n");
}

/* ---- Standard input and output ---- */

static void mark(void)
{
    const struct counters before = load.counters;
    load.counters = (struct counters){.since = now_ns(), .strayed = before.strayed, .latency = before.latency};
    load.counters.latency.count = 0;
    load.measurement = ++load.awaited;
}

static void print_direction(const char *name, enum direction direction)
{
    printf("\"%s\": {\"sent\": %llu, \"received\": %llu, \"overtaken\": %llu}, ", name,
           (unsigned long long)load.counters.sent[direction], (unsigned long long)load.counters.received[direction],
           (unsigned long long)load.counters.overtaken[direction]);
}

static void report(void)
{
    struct counters *counters = &load.counters;
    printf("{\"event\": \"report\", \"seconds\": %.3f, ",
           (double)(report_at - GRACE_NS - counters->since) / NS_PER_SECOND);
    print_direction("to_origin", TO_ORIGIN);
    print_direction("to_client", TO_CLIENT);
    printf("\"strayed\": %llu, \"late\": %llu, \"sent_bytes\": %llu, \"received_bytes\": %llu, \"latency\": ",
           (unsigned long long)counters->strayed, (unsigned long long)counters->late,
           (unsigned long long)counters->sent_bytes, (unsigned long long)counters->received_bytes);
    samples_print(&counters->latency);
    printf("}\n");
    report_at = 0;
}

static void obey(const char *command)
{
    static const char open_word[] = "open ";
    if (strncmp(command, open_word, sizeof open_word - 1) == 0) {
        open_sessions(command + sizeof open_word - 1);
    } else if (strcmp(command, "start") == 0) {
        start();
    } else if (strcmp(command, "mark") == 0) {
        mark();
    } else if (strcmp(command, "report") == 0) {
        load.measurement = 0;
        report_at = now_ns() + GRACE_NS;
    } else {
        die("an unknown command on standard input: %s", command);
    }
}

static void tick(void)
{
    send_requests();
    if (report_at && now_ns() >= report_at)
        report();
}

/* ---- The loop ---- */

static void add(int fd, void *source)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = source};
    if (epoll_ctl(load.epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll_ctl: %s", strerror(errno));
}

static void serve_ticker(void)
{
    uint64_t expirations;
    if (read(ticker, &expirations, sizeof expirations) == sizeof expirations)
        tick();
}

static _Noreturn void run(void)
{
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(load.epoll, events, EVENTS, -1);
        if (count < 0 && errno != EINTR)
            die("epoll_wait: %s", strerror(errno));
        for (int i = 0; i < count; i++) {
            void *source = events[i].data.ptr;
            if (source == &commands)
                read_lines(obey);
            else if (source == &ticker)
                serve_ticker();
            else if (source == &load)
                origin_receive(&load);
            else if (source != &timer)
                session_receive(source);
        }
        send_due_packets();
    }
}

static void parse_options(int argc, char **argv)
{
    enum { TARGET, ORIGIN, SRT, RATE, BURST };
    static const struct option options[] = {
        {"target", required_argument, NULL, TARGET}, {"origin", required_argument, NULL, ORIGIN},
        {"srt", no_argument, NULL, SRT},             {"rate", required_argument, NULL, RATE},
        {"burst", required_argument, NULL, BURST},   {NULL, 0, NULL, 0},
    };
    unsigned port = 0;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case TARGET: load.target = parse_address("--target", optarg); break;
        case ORIGIN: port = parse_number("--origin", optarg, 65535); break;
        case SRT: load.protocol = &srt; break;
        case RATE: rate = parse_number("--rate", optarg, 100000); break;
        case BURST: burst = parse_number("--burst", optarg, MAX_BURST); break;
        default: fputs(USAGE, stderr); exit(2);
        }
    }
    if (!load.target.sin_port || !port || optind < argc) {
        fputs(USAGE, stderr);
        exit(2);
    }
    origin_open(&load, port);
}

int main(int argc, char **argv)
{
    setlinebuf(stdout);
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    ticker = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (load.epoll < 0 || timer < 0 || ticker < 0)
        die("epoll or timerfd: %s", strerror(errno));
    parse_options(argc, argv);
    struct itimerspec always = {.it_interval = {0, TICK_NS}, .it_value = {0, TICK_NS}};
    timerfd_settime(ticker, 0, &always, NULL);
    add(timer, &timer);
    add(ticker, &ticker);
    add(STDIN_FILENO, &commands);
    run();
}
