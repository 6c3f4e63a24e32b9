#include "session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base.h"
#include "packet.h"

#define RECEIVED_AT_ONCE 64
#define BUFFER_BYTES (8 << 20)

#define RETRY_NS (500 * NS_PER_MS)
#define GIVE_UP_NS (20 * NS_PER_SECOND)
/* Chrome's interval. The sessions' requests are spread over it. */
#define CONSENT_NS (2500 * NS_PER_MS)

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
    if (now < session->ask_at)
        return;
    if (!session->asked_at)
        session->asked_at = now;
    if (!session->open && now - session->asked_at > GIVE_UP_NS)
        die("session %u of %u: its STUN request is not answered", session->number + 1, session->load->count);
    /* A request that does not get through is one that is not answered. */
    send(session->fd, session->request, session->request_size, 0);
    session->ask_at = now + (session->open ? CONSENT_NS : RETRY_NS);
}

static void answered(struct session *session)
{
    struct load *load = session->load;
    if (session->open)
        return;
    uint64_t now = now_ns();
    session->open = true;
    session->ask_at = now + CONSENT_NS * session->number / load->count;
    samples_add(&load->set_up, now - session->asked_at);
    load->open++;
}

void session_emit(struct session *session, enum direction direction, unsigned burst, bool late)
{
    static uint8_t packets[MAX_BURST][VIDEO_BYTES];
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
        parts[i] = (struct iovec){packets[i], packet_write(packets[i], &mark)};
        bytes += parts[i].iov_len;
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
        if (direction == TO_CLIENT) {
            messages[i].msg_hdr.msg_name = &session->peer;
            messages[i].msg_hdr.msg_namelen = sizeof session->peer;
        }
    }
    /* Those that do not get through are lost. */
    sendmmsg(direction == TO_CLIENT ? load->origin : session->fd, messages, burst, 0);
    if (!load->measurement)
        return;
    load->counters.sent[direction] += burst;
    load->counters.sent_bytes += bytes;
    if (late)
        load->counters.late += burst;
}

/* ---- Receiving ---- */

/* Some datagrams: the head of each, where it is from, and its size. */
struct batch {
    uint8_t heads[RECEIVED_AT_ONCE][HEAD_BYTES];
    struct sockaddr_in from[RECEIVED_AT_ONCE];
    size_t sizes[RECEIVED_AT_ONCE];
    int count;
    uint64_t at;
};

static const struct batch *receive(int fd)
{
    static struct batch batch;
    static struct iovec parts[RECEIVED_AT_ONCE];
    static struct mmsghdr messages[RECEIVED_AT_ONCE];
    static bool prepared; /* no message changes what the next needs: all addresses are of the same size */
    for (int i = 0; !prepared && i < RECEIVED_AT_ONCE; i++) {
        parts[i] = (struct iovec){batch.heads[i], HEAD_BYTES};
        messages[i].msg_hdr = (struct msghdr){.msg_name = &batch.from[i],
                                              .msg_namelen = sizeof batch.from[i],
                                              .msg_iov = &parts[i],
                                              .msg_iovlen = 1};
    }
    prepared = true;
    /* MSG_TRUNC: the sizes are those of the datagrams. An error is that of a datagram that was sent: it is lost. */
    batch.count = recvmmsg(fd, messages, RECEIVED_AT_ONCE, MSG_TRUNC, NULL);
    batch.at = now_ns();
    for (int i = 0; i < batch.count; i++)
        batch.sizes[i] = messages[i].msg_len;
    return &batch;
}

static void take_packet(struct session *session, const struct mark *mark, enum direction direction,
                        const struct batch *batch, int index)
{
    struct load *load = session->load;
    struct counters *counters = &load->counters;
    bool overtaken = mark->sequence < session->expected[direction];
    if (!overtaken)
        session->expected[direction] = mark->sequence + 1;
    if (!mark->measurement || mark->measurement != load->awaited)
        return;
    counters->overtaken[direction] += overtaken;
    counters->received[direction]++;
    counters->received_bytes += batch->sizes[index];
    samples_add(&counters->latency, batch->at - mark->sent_at);
}

void session_receive(struct session *session)
{
    const struct batch *batch = receive(session->fd);
    for (int i = 0; i < batch->count; i++) {
        const uint8_t *head = batch->heads[i];
        struct mark mark;
        if (stun_is(head, batch->sizes[i]) && stun_session(head) == session->number)
            answered(session);
        else if (packet_read(head, batch->sizes[i], &mark) && mark.session == session->number && !mark.to_origin)
            take_packet(session, &mark, TO_CLIENT, batch, i);
        else
            session->load->counters.strayed++;
    }
}

static bool same_address(const struct sockaddr_in *left, const struct sockaddr_in *right)
{
    return left->sin_port == right->sin_port && left->sin_addr.s_addr == right->sin_addr.s_addr;
}

static void answer(struct session *session, const uint8_t *request, const struct sockaddr_in *from)
{
    uint8_t bytes[STUN_HEADER_BYTES];
    stun_answer(bytes, request);
    session->peer = *from;
    sendto(session->load->origin, bytes, sizeof bytes, 0, (const struct sockaddr *)from, sizeof *from);
}

void origin_receive(struct load *load)
{
    const struct batch *batch = receive(load->origin);
    for (int i = 0; i < batch->count; i++) {
        const uint8_t *head = batch->heads[i];
        const struct sockaddr_in *from = &batch->from[i];
        struct mark mark;
        if (stun_is(head, batch->sizes[i]) && stun_session(head) < load->count)
            answer(load->sessions[stun_session(head)], head, from);
        else if (packet_read(head, batch->sizes[i], &mark) && mark.session < load->count && mark.to_origin &&
                 same_address(&load->sessions[mark.session]->peer, from))
            take_packet(load->sessions[mark.session], &mark, TO_ORIGIN, batch, i);
        else
            load->counters.strayed++;
    }
}
