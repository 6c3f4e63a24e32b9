#include "session.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base.h"
#include "dialogue.h"
#include "send.h"

#define HANDSHAKE_BYTES 1536
#define RTMP_VERSION 3
/* As much as one read takes: players get bursts. */
#define RECEIVE_BYTES 262144

/* ffmpeg writes the header and the payload of a message apart; "message" is the same in one write, which is what a
 * publisher looks like from behind a network. librtmp, which OBS uses, writes each chunk. */
static const struct style STYLES[] = {
    {"message", 60000, false, 4, 6, false, WRITE_MESSAGES},
    {"ffmpeg", 60000, false, 4, 6, false, WRITE_HEADERS_APART},
    {"obs", 4096, true, 4, 4, false, WRITE_CHUNKS},
};
static const struct style ORIGIN_STYLE = {"origin", 60000, false, 4, 6, true, WRITE_MESSAGES};

const struct style *find_style(const char *name)
{
    for (size_t i = 0; i < sizeof STYLES / sizeof *STYLES; i++)
        if (strcmp(STYLES[i].name, name) == 0)
            return &STYLES[i];
    return NULL;
}

void session_fail(struct session *session, const char *problem)
{
    if (!session->problem[0])
        snprintf(session->problem, sizeof session->problem, "%s", problem);
}

static struct session *new_session(struct load *load, enum role role, int fd, const struct style *style)
{
    struct session *session = calloc(1, sizeof *session);
    if (!session)
        die("out of memory");
    session->load = load;
    session->role = role;
    session->fd = fd;
    session->style = style;
    session->out_chunk_size = DEFAULT_CHUNK_SIZE;
    chunk_reader_start(&session->reader);
    /* What is measured is the relay, not how the generator's own Nagle meets the relay's delayed acknowledgements. */
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return session;
}

struct session *session_connect(struct load *load, enum role role, unsigned number, const struct style *style)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket: %s", strerror(errno));
    struct session *session = new_session(load, role, fd, style);
    session->number = number;
    load->clients[number] = session;
    if (connect(fd, (struct sockaddr *)&load->target, sizeof load->target) < 0 && errno != EINPROGRESS)
        die("connect: %s", strerror(errno));
    watch(session, EPOLL_CTL_ADD, true);
    return session;
}

struct session *session_accepted(struct load *load, int fd)
{
    struct session *session = new_session(load, ORIGIN, fd, &ORIGIN_STYLE);
    session->stage = HANDSHAKING;
    watch(session, EPOLL_CTL_ADD, false);
    return session;
}

void session_close(struct session *session)
{
    if (session->role != ORIGIN)
        session->load->clients[session->number] = NULL;
    close(session->fd);
    free(session->handshake);
    free(session->unsent);
    free(session);
}

uint64_t session_due(const struct session *session)
{
    return session->load->http ? session->batch_due : media_due(&session->media);
}

bool session_emit(struct session *session, uint64_t now)
{
    if (session->unsent_size) {
        session->blocked = true;
        return false;
    }
    struct counters *counters = &session->load->counters;
    uint64_t due = session_due(session);
    /* A frame that waited for the relay is as old as its due time; that the generator itself was late is not the
     * relay's fault. */
    uint64_t stamp = session->blocked ? due : now_ns();
    session->blocked = false;
    counters->sent_messages++;
    if (now - due > LATE_NS)
        counters->late_messages++;
    if (session->load->http) {
        flv_send_batch(session, stamp);
    } else {
        struct tag tag;
        media_next(&session->media, stamp, &tag);
        send_tag(session, &tag);
    }
    return true;
}

static void on_message(void *owner, const struct received_message *message)
{
    struct session *session = owner;
    if (message->type == VIDEO) {
        uint64_t stamp = media_stamp(message->head, message->head_size);
        if (stamp)
            samples_add(&session->load->counters.latency, now_ns() - stamp);
    } else if (message->type == COMMAND) {
        dialogue_command(session, message);
    }
}

/* S0S1S2 for a client, C0C1 and later C2 for an origin; both answer the peer's 1536 bytes with a copy of them. */
static size_t take_handshake(struct session *session, const uint8_t *data, size_t size)
{
    bool client = session->role != ORIGIN;
    const size_t complete = 1 + 2 * HANDSHAKE_BYTES;
    if (!session->handshake)
        session->handshake = reallocate(NULL, complete);
    size_t before = session->handshake_size;
    size_t used = complete - before < size ? complete - before : size;
    memcpy(session->handshake + before, data, used);
    session->handshake_size += used;
    if (session->handshake[0] != RTMP_VERSION)
        session_fail(session, "a handshake of another version");
    size_t answered = client ? complete : 1 + HANDSHAKE_BYTES;
    if (before < answered && session->handshake_size >= answered) {
        if (!client) {
            uint8_t s0_s1[1 + HANDSHAKE_BYTES] = {RTMP_VERSION};
            send_bytes(session, s0_s1, sizeof s0_s1);
        }
        send_bytes(session, session->handshake + 1, HANDSHAKE_BYTES);
    }
    if (session->handshake_size == complete) {
        free(session->handshake);
        session->handshake = NULL;
        session->stage = CHUNKS;
        if (client)
            dialogue_start(session);
    }
    return used;
}

static void take_rtmp(struct session *session, const uint8_t *data, size_t size)
{
    if (session->stage == HANDSHAKING) {
        size_t used = take_handshake(session, data, size);
        data += used;
        size -= used;
    }
    if (size) {
        const char *problem = chunk_read(&session->reader, data, size, on_message, session);
        if (problem)
            session_fail(session, problem);
    }
    if (session->received - session->acknowledged >= WINDOW_BYTES) {
        session->acknowledged = session->received;
        send_number(session, ACKNOWLEDGEMENT, (uint32_t)session->received);
    }
}

void session_readable(struct session *session)
{
    static uint8_t buffer[RECEIVE_BYTES];
    ssize_t result = recv(session->fd, buffer, sizeof buffer, 0);
    if (result <= 0) {
        if (result == 0)
            session_fail(session, "the peer closed the connection");
        else if (errno != EAGAIN)
            session_fail(session, strerror(errno));
        return;
    }
    if (session->load->quick_ack && session->role != ORIGIN && !session->live) {
        int on = 1; /* lasts for some segments only */
        setsockopt(session->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
    }
    session->received += (uint64_t)result;
    session->load->counters.received_bytes += (uint64_t)result;
    if (session->load->http)
        flv_receive(session, buffer, (size_t)result);
    else
        take_rtmp(session, buffer, (size_t)result);
}

static void connected(struct session *session)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(session->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        session_fail(session, strerror(error));
        return;
    }
    /* C0 and C1: version, time 0, four zeros, then bytes that need only be there. */
    uint8_t c0_c1[1 + HANDSHAKE_BYTES] = {RTMP_VERSION};
    memset(c0_c1 + 9, 0x5a, sizeof c0_c1 - 9);
    session->stage = HANDSHAKING;
    session->first_byte_at = now_ns();
    if (session->load->http) {
        flv_request(session);
        return;
    }
    send_bytes(session, c0_c1, sizeof c0_c1);
}

void session_writable(struct session *session)
{
    if (session->stage == CONNECTING)
        connected(session);
    else if (session->unsent_size)
        send_unsent(session);
    if (!session->unsent_size && !session->problem[0])
        watch(session, EPOLL_CTL_MOD, false);
}
