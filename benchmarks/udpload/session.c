#include "session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base.h"

#define RECEIVED_AT_ONCE 64
#define BUFFER_BYTES (8 << 20)

#define RETRY_NS (500 * NS_PER_MS)
#define GIVE_UP_NS (20 * NS_PER_SECOND)

static int open_socket(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket: %s", strerror(errno));
    /* What gets lost is to be lost on the way, not here. Beyond the system's limit only root gets it. */
    int bytes = BUFFER_BYTES;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) < 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    return fd;
}

static void watch(const struct load *load, int fd, void *owner)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = owner};
    if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        die("epoll_ctl: %s", strerror(errno));
}

void origin_open(struct load *load, unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    load->origin = open_socket();
    if (bind(load->origin, (struct sockaddr *)&address, sizeof address) < 0)
        die("bind to 127.0.0.1:%u: %s", port, strerror(errno));
    watch(load, load->origin, load);
}

void session_add(struct load *load, uint8_t *request, size_t request_size)
{
    struct session *session = calloc(1, sizeof *session);
    if (!session)
        die("out of memory");
    session->load = load;
    session->number = load->count;
    session->request = request;
    session->request_size = request_size;
    session->fd = open_socket();
    if (connect(session->fd, (struct sockaddr *)&load->target, sizeof load->target) < 0)
        die("connect: %s", strerror(errno));
    watch(load, session->fd, session);
    load->sessions = reallocate(load->sessions, (load->count + 1) * sizeof *load->sessions);
    load->sessions[load->count++] = session;
}

void session_ask(struct session *session, uint64_t now)
{
    const struct protocol *protocol = session->load->protocol;
    if (now < session->ask_at)
        return;
    if (session->open) {
        session->ask_at = protocol->keep(session, now);
        return;
    }
    if (!session->asked_at)
        session->asked_at = now;
    if (now - session->asked_at > GIVE_UP_NS)
        die("session %u of %u: its request is not answered", session->number + 1, session->load->count);
    protocol->ask(session);
    session->ask_at = now + RETRY_NS;
}

void session_opened(struct session *session, uint64_t pause)
{
    struct load *load = session->load;
    if (session->open)
        return;
    uint64_t now = now_ns();
    session->open = true;
    session->ask_at = now + pause;
    samples_add(&load->set_up, now - session->asked_at);
    load->open++;
}

void session_emit(struct session *session, enum direction direction, unsigned burst, bool late)
{
    static uint8_t packets[MAX_BURST][PACKET_BYTES];
    struct load *load = session->load;
    struct iovec parts[MAX_BURST];
    struct mmsghdr messages[MAX_BURST];
    size_t bytes = 0;
    struct mark mark = {.sent_at = now_ns(),
                        .session = session->number,
                        .measurement = load->measurement,
                        .to_origin = direction == TO_ORIGIN};
    for (unsigned i = 0; i < burst; i++) {
        mark.sequence = session->sent[direction]++;
        parts[i] = (struct iovec){packets[i], load->protocol->write(packets[i], session, &mark)};
        bytes += parts[i].iov_len;
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
        if (direction == TO_CLIENT) {
            messages[i].msg_hdr.msg_name = &session->peer;
            messages[i].msg_hdr.msg_namelen = sizeof session->peer;
        }
    }
    /* Those that do not get through are lost. */
    sendmmsg(direction == TO_CLIENT ? load->origin : session->fd, messages, burst, 0);
    session->sent_at[direction] = mark.sent_at;
    if (!load->measurement)
        return;
    load->counters.sent[direction] += burst;
    load->counters.sent_bytes += bytes;
    if (late)
        load->counters.late += burst;
}

void session_send(struct session *session, enum direction direction, const uint8_t *bytes, size_t size)
{
    /* What does not get through is lost, as above; a request that does not is one that is not answered. */
    if (direction == TO_ORIGIN)
        send(session->fd, bytes, size, 0);
    else
        sendto(session->load->origin, bytes, size, 0, (const struct sockaddr *)&session->peer, sizeof session->peer);
    session->sent_at[direction] = now_ns();
}

void session_send_counted(struct session *session, enum direction direction, const uint8_t *bytes, size_t size)
{
    struct load *load = session->load;
    session_send(session, direction, bytes, size);
    if (!load->measurement)
        return;
    load->counters.sent[direction]++;
    load->counters.sent_bytes += size;
}

/* ---- Receiving ---- */

/* Some datagrams, with the head of each. */
struct batch {
    struct datagram datagrams[RECEIVED_AT_ONCE];
    int count;
};

static const struct batch *receive(int fd)
{
    static uint8_t heads[RECEIVED_AT_ONCE][HEAD_BYTES];
    static struct sockaddr_in from[RECEIVED_AT_ONCE];
    static struct iovec parts[RECEIVED_AT_ONCE];
    static struct mmsghdr messages[RECEIVED_AT_ONCE];
    static struct batch batch;
    static bool prepared; /* no message changes what the next needs: all addresses are of the same size */
    for (int i = 0; !prepared && i < RECEIVED_AT_ONCE; i++) {
        parts[i] = (struct iovec){heads[i], HEAD_BYTES};
        messages[i].msg_hdr = (struct msghdr){
            .msg_name = &from[i], .msg_namelen = sizeof from[i], .msg_iov = &parts[i], .msg_iovlen = 1};
        batch.datagrams[i] = (struct datagram){.head = heads[i], .from = &from[i]};
    }
    prepared = true;
    /* MSG_TRUNC: the sizes are those of the datagrams. An error is that of a datagram that was sent: it is lost. */
    batch.count = recvmmsg(fd, messages, RECEIVED_AT_ONCE, MSG_TRUNC, NULL);
    uint64_t now = now_ns();
    for (int i = 0; i < batch.count; i++) {
        batch.datagrams[i].size = messages[i].msg_len;
        batch.datagrams[i].at = now;
    }
    return &batch;
}

void session_count(struct session *session, enum direction direction, uint32_t measurement, size_t size)
{
    struct load *load = session->load;
    if (!measurement || measurement != load->awaited)
        return;
    load->counters.received[direction]++;
    load->counters.received_bytes += size;
}

bool session_is_from_peer(const struct session *session, const struct datagram *datagram)
{
    return session->peer.sin_port == datagram->from->sin_port &&
           session->peer.sin_addr.s_addr == datagram->from->sin_addr.s_addr;
}

bool session_take(struct session *session, enum direction direction, const struct mark *mark,
                  const struct datagram *datagram)
{
    struct load *load = session->load;
    if (mark->session != session->number || mark->to_origin != (direction == TO_ORIGIN) ||
        (direction == TO_ORIGIN && !session_is_from_peer(session, datagram)))
        return false;
    bool overtaken = mark->sequence < session->expected[direction];
    if (!overtaken)
        session->expected[direction] = mark->sequence + 1;
    session_count(session, direction, mark->measurement, datagram->size);
    if (mark->measurement && mark->measurement == load->awaited) {
        load->counters.overtaken[direction] += overtaken;
        samples_add(&load->counters.latency, datagram->at - mark->sent_at);
    }
    return true;
}

void session_receive(struct session *session)
{
    const struct batch *batch = receive(session->fd);
    for (int i = 0; i < batch->count; i++)
        if (!session->load->protocol->client_take(session, &batch->datagrams[i]))
            session->load->counters.strayed++;
}

void origin_receive(struct load *load)
{
    const struct batch *batch = receive(load->origin);
    for (int i = 0; i < batch->count; i++)
        if (!load->protocol->origin_take(load, &batch->datagrams[i]))
            load->counters.strayed++;
}
