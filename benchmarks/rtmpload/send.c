#include "send.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base.h"

/* A frame is emitted only when all earlier bytes are sent, so this holds one frame, or some commands. */
#define MAX_UNSENT 262144

/* Chunk streams as clients and SRS use them. */
enum { CONTROL_CHUNKS = 2, DATA_CHUNKS = 4 };

void watch(struct session *session, int operation, bool writable)
{
    struct epoll_event event = {.events = EPOLLIN | (writable ? EPOLLOUT : 0), .data.ptr = session};
    if (epoll_ctl(session->load->epoll, operation, session->fd, &event) < 0)
        die("epoll_ctl: %s", strerror(errno));
}

static void keep_unsent(struct session *session, const struct iovec *parts, size_t count, size_t skip)
{
    for (size_t i = 0; i < count; i++) {
        size_t size = parts[i].iov_len;
        size_t skipped = skip < size ? skip : size;
        skip -= skipped;
        size -= skipped;
        if (!size)
            continue;
        if (!session->unsent)
            session->unsent = reallocate(NULL, MAX_UNSENT);
        if (session->unsent_size + size > MAX_UNSENT) {
            session_fail(session, "the peer does not read");
            return;
        }
        memcpy(session->unsent + session->unsent_size, (uint8_t *)parts[i].iov_base + skipped, size);
        session->unsent_size += size;
    }
}

/* One write; what the kernel does not take is kept until it does. */
static void send_parts(struct session *session, const struct iovec *parts, size_t count)
{
    size_t size = 0, sent = 0;
    for (size_t i = 0; i < count; i++)
        size += parts[i].iov_len;
    if (!session->unsent_size) {
        struct msghdr header = {.msg_iov = (struct iovec *)parts, .msg_iovlen = count};
        ssize_t result = sendmsg(session->fd, &header, MSG_NOSIGNAL);
        if (result < 0 && errno != EAGAIN) {
            session_fail(session, strerror(errno));
            return;
        }
        sent = result < 0 ? 0 : (size_t)result;
        session->load->counters.sent_bytes += sent;
    }
    if (sent == size)
        return;
    bool watched = session->unsent_size > 0;
    keep_unsent(session, parts, count, sent);
    if (!watched)
        watch(session, EPOLL_CTL_MOD, true);
}

void send_bytes(struct session *session, const void *data, size_t size)
{
    send_parts(session, &(struct iovec){(void *)data, size}, 1);
}

void send_message(struct session *session, const struct message *message)
{
    struct chunk_layout layout;
    chunk_lay_out(&layout, message, session->out_chunk_size);
    session->used_chunk_streams |= 1ULL << message->chunk_stream;
    const struct iovec *parts = layout.parts;
    switch (session->style->writes) {
    case WRITE_MESSAGES:
        send_parts(session, parts, layout.count);
        break;
    case WRITE_HEADERS_APART:
        send_parts(session, parts, 1);
        send_parts(session, parts + 1, layout.count - 1);
        break;
    case WRITE_CHUNKS:
        for (size_t i = 0; i < layout.chunks; i++) {
            size_t end = i + 1 < layout.chunks ? layout.chunk_starts[i + 1] : layout.count;
            send_parts(session, parts + layout.chunk_starts[i], end - layout.chunk_starts[i]);
        }
        break;
    }
}

void send_control(struct session *session, enum message_type type, const uint8_t *data, size_t size)
{
    send_message(session, &(struct message){.chunk_stream = CONTROL_CHUNKS, .type = (uint8_t)type,
                                            .payload = {{(void *)data, size}}});
}

void send_number(struct session *session, enum message_type type, uint32_t value)
{
    uint8_t data[5];
    write_be(data, 4, value);
    data[4] = 2; /* SetPeerBandwidth only: the limit is dynamic */
    send_control(session, type, data, type == SET_PEER_BANDWIDTH ? 5 : 4);
}

void send_chunk_size(struct session *session)
{
    send_number(session, SET_CHUNK_SIZE, session->style->chunk_size);
    session->out_chunk_size = session->style->chunk_size;
}

void send_tag(struct session *session, const struct tag *tag)
{
    const struct style *style = session->style;
    unsigned chunk_stream = tag->video ? style->video_chunk_stream : style->audio_chunk_stream;
    uint32_t *last = &session->last_time[chunk_stream];
    bool full = style->full_headers || !(session->used_chunk_streams >> chunk_stream & 1);
    send_message(session, &(struct message){.format = full ? 0 : 1,
                                            .chunk_stream = chunk_stream,
                                            .time = full ? tag->time : tag->time - *last,
                                            .type = tag->video ? VIDEO : AUDIO,
                                            .message_stream = THE_STREAM,
                                            .payload = {{(void *)tag->head, tag->head_size},
                                                        {(void *)tag->body, tag->body_size}}});
    *last = tag->time;
}

void send_metadata(struct session *session, const struct amf *metadata)
{
    send_message(session, &(struct message){.chunk_stream = DATA_CHUNKS, .type = DATA, .message_stream = THE_STREAM,
                                            .payload = {{(void *)metadata->data, metadata->size}}});
}

void send_unsent(struct session *session)
{
    ssize_t sent = send(session->fd, session->unsent, session->unsent_size, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN)
            session_fail(session, strerror(errno));
        return;
    }
    session->load->counters.sent_bytes += (uint64_t)sent;
    session->unsent_size -= (size_t)sent;
    memmove(session->unsent, session->unsent + sent, session->unsent_size);
}
