/* rtmpload: publishers or players of RTMP, or players of HTTP-FLV, and if asked the origin they meet, in one thread.
 *
 * Standard output carries one JSON object a line: "ready" when all sessions are live, "report" when asked, "error" before
 * the process ends because of one. Standard input takes the lines "mark" (counting starts anew) and "report"; its end
 * ends the process, so that it cannot outlive the one that started it. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base.h"
#include "command.h"
#include "session.h"

#define EVENTS 128

static const char USAGE[] =
    "usage: rtmpload publish|play --target IP:PORT --sessions N [options]\n"
    "  --streams N    players share N stream names (as many as sessions)\n"
    "  --name NAME    streams are called NAME-0, NAME-1, ... (bench)\n"
    "  --style STYLE  message: one write a message, as a network delivers it (default);\n"
    "                 ffmpeg: headers and payloads in writes of their own; obs: chunks of 4096 bytes, a write each\n"
    "  --http         HTTP-FLV instead of RTMP: players only; an origin that sends FLV as SRS does\n"
    "  --idle         publishers send metadata and sequence headers, and then nothing\n"
    "  --quick-ack    acknowledge at once during set-up, so that nobody's Nagle waits for it\n"
    "  --parallel N   how many sessions are set up at a time (16)\n"
    "  --origin PORT  also be the origin: on 127.0.0.1:PORT, take what is published and feed what is played\n";

static const char *const ROLE_NAMES[] = {[PUBLISHER] = "publisher", [PLAYER] = "player"};

static struct load load;
static enum role role;
static const struct style *style;
static unsigned parallel = 16;
static unsigned started, live;
static int listener = -1, timer, commands = STDIN_FILENO;

/* ---- Sessions that have a frame to send, as a binary heap on its due time ---- */

static struct session **heap;
static size_t heap_size, heap_capacity;

static uint64_t due(size_t index)
{
    return session_due(heap[index]);
}

static void swap(size_t left, size_t right)
{
    struct session *session = heap[left];
    heap[left] = heap[right];
    heap[right] = session;
}

static void sift_down(void)
{
    for (size_t at = 0, child; (child = 2 * at + 1) < heap_size; at = child) {
        if (child + 1 < heap_size && due(child + 1) < due(child))
            child++;
        if (due(at) <= due(child))
            break;
        swap(at, child);
    }
}

static void push(struct session *session)
{
    if (heap_size == heap_capacity) {
        heap_capacity = heap_capacity ? 2 * heap_capacity : 256;
        heap = reallocate(heap, heap_capacity * sizeof *heap);
    }
    heap[heap_size] = session;
    for (size_t at = heap_size++; at && due(at) < due((at - 1) / 2); at = (at - 1) / 2)
        swap(at, (at - 1) / 2);
}

static void pop(void)
{
    heap[0] = heap[--heap_size];
    sift_down();
}

static void forget(const struct session *session)
{
    size_t kept = 0, size = heap_size;
    heap_size = 0;
    while (kept < size) { /* rare and small: build the heap anew without it */
        struct session *other = heap[kept++];
        if (other != session)
            push(other);
    }
}

static void emit_due_frames(void)
{
    uint64_t now = now_ns();
    while (heap_size && due(0) <= now) {
        if (session_emit(heap[0], now))
            sift_down();
        else
            pop(); /* comes back when its earlier bytes are sent */
    }
    static uint64_t armed;
    uint64_t next = heap_size ? due(0) : 0; /* 0 disarms */
    if (next == armed)
        return;
    armed = next;
    struct itimerspec at = {.it_value = {(time_t)(next / NS_PER_SECOND), (long)(next % NS_PER_SECOND)}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL); /* also forgets that it went off: no need to read it */
}

/* ---- Standard input and output ---- */

static void mark(void)
{
    struct counters before = load.counters;
    before.latency.count = 0;
    for (unsigned i = 0; i < load.sessions; i++)
        if (load.clients[i])
            load.clients[i]->received_before = load.clients[i]->received;
    load.counters = (struct counters){.since = now_ns(), .closed = before.closed, .latency = before.latency};
}

static void report(void)
{
    struct counters *counters = &load.counters;
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < load.sessions; i++) {
        const struct session *session = load.clients[i];
        uint64_t received = session ? session->received - session->received_before : 0;
        if (received < least)
            least = received;
    }
    printf("{\"event\": \"report\", \"seconds\": %.3f, \"sent_bytes\": %llu, \"received_bytes\": %llu, "
           "\"least_received_bytes\": %llu, \"sent_messages\": %llu, \"late_messages\": %llu, \"closed\": %llu, "
           "\"latency\": ",
           (double)(now_ns() - counters->since) / NS_PER_SECOND, (unsigned long long)counters->sent_bytes,
           (unsigned long long)counters->received_bytes, (unsigned long long)least,
           (unsigned long long)counters->sent_messages, (unsigned long long)counters->late_messages,
           (unsigned long long)counters->closed);
    samples_print(&counters->latency);
    printf("}\n");
}

static void obey(const char *command)
{
    if (strcmp(command, "mark") == 0)
        mark();
    else if (strcmp(command, "report") == 0)
        report();
    else
        die("an unknown command on standard input: %s", command);
}

/* ---- The loop ---- */

static void start_sessions(void)
{
    while (started < load.sessions && started - live < parallel)
        session_connect(&load, role, started++, style);
}

static void on_live(struct session *session)
{
    if (session->emits)
        push(session);
    if (session->role == ORIGIN)
        return;
    live++;
    start_sessions();
    if (live < load.sessions)
        return;
    printf("{\"event\": \"ready\", \"sessions\": %u, \"set_up\": ", live);
    samples_print(&load.set_up);
    printf("}\n");
}

static void accept_sessions(void)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
        session_accepted(&load, fd);
    if (errno != EAGAIN && errno != ECONNABORTED)
        die("accept: %s", strerror(errno));
}

static void serve(struct session *session, uint32_t events)
{
    bool was_live = session->live;
    if (events & EPOLLOUT)
        session_writable(session);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !session->problem[0])
        session_readable(session);
    if (session->live && !was_live)
        on_live(session);
    if (session->blocked && !session->unsent_size)
        push(session); /* emitted, and so not blocked any more, before another event can come */
    if (!session->problem[0])
        return;
    if (session->role != ORIGIN && live < load.sessions)
        die("%s %u of %u: %s", ROLE_NAMES[session->role], session->number + 1, load.sessions, session->problem);
    if (session->live) /* else the relay, or its checks, only looked whether there is an origin */
        load.counters.closed++;
    forget(session);
    session_close(session);
}

static void add(int fd, void *source)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = source};
    if (epoll_ctl(load.epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll_ctl: %s", strerror(errno));
}

static _Noreturn void run(void)
{
    start_sessions();
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(load.epoll, events, EVENTS, -1);
        if (count < 0 && errno != EINTR)
            die("epoll_wait: %s", strerror(errno));
        for (int i = 0; i < count; i++) {
            void *source = events[i].data.ptr;
            if (source == &commands)
                read_lines(obey);
            else if (source == &listener)
                accept_sessions();
            else if (source != &timer)
                serve(source, events[i].events);
        }
        emit_due_frames();
    }
}

static void parse_target(const char *text)
{
    load.target = parse_address("--target", text);
    snprintf(load.authority, sizeof load.authority, "%s", text);
}

static void listen_on(unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 1024) < 0)
        die("listen on 127.0.0.1:%u: %s", port, strerror(errno));
    add(listener, &listener);
}

static void parse_options(int argc, char **argv)
{
    enum { TARGET, SESSIONS, STREAMS, NAME, STYLE, HTTP, IDLE, QUICK_ACK, PARALLEL, ORIGIN_PORT };
    static const struct option options[] = {
        {"target", required_argument, NULL, TARGET},     {"sessions", required_argument, NULL, SESSIONS},
        {"streams", required_argument, NULL, STREAMS},   {"name", required_argument, NULL, NAME},
        {"style", required_argument, NULL, STYLE},       {"http", no_argument, NULL, HTTP},
        {"idle", no_argument, NULL, IDLE},               {"quick-ack", no_argument, NULL, QUICK_ACK},
        {"parallel", required_argument, NULL, PARALLEL}, {"origin", required_argument, NULL, ORIGIN_PORT},
        {NULL, 0, NULL, 0},
    };
    load.name = "bench";
    style = find_style("message");
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case TARGET: parse_target(optarg); break;
        case SESSIONS: load.sessions = parse_number("--sessions", optarg, 100000); break;
        case STREAMS: load.streams = parse_number("--streams", optarg, 100000); break;
        case NAME: load.name = optarg; break;
        case STYLE: style = find_style(optarg); break;
        case HTTP: load.http = true; break;
        case IDLE: load.idle = true; break;
        case QUICK_ACK: load.quick_ack = true; break;
        case PARALLEL: parallel = parse_number("--parallel", optarg, 100000); break;
        case ORIGIN_PORT: listen_on(parse_number("--origin", optarg, 65535)); break;
        default: fputs(USAGE, stderr); exit(2);
        }
    }
    const char *mode = optind + 1 == argc ? argv[optind] : "";
    bool plays = strcmp(mode, "play") == 0;
    if ((!plays && strcmp(mode, "publish") != 0) || !load.target.sin_port || !load.sessions || !style ||
        (load.http && !plays)) {
        fputs(USAGE, stderr);
        exit(2);
    }
    role = plays ? PLAYER : PUBLISHER;
    if (!load.streams)
        load.streams = load.sessions;
    load.clients = reallocate(NULL, load.sessions * sizeof *load.clients);
    memset(load.clients, 0, load.sessions * sizeof *load.clients);
}

int main(int argc, char **argv)
{
    setlinebuf(stdout);
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (load.epoll < 0 || timer < 0)
        die("epoll or timerfd: %s", strerror(errno));
    parse_options(argc, argv);
    add(timer, &timer);
    add(commands, &commands);
    run();
}
