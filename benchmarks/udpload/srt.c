#include <string.h>

#include "base.h"
#include "protocol.h"
#include "session.h"

/* draft-sharabayko-srt-01, section 3. Each packet has this header. */
#define HEADER_BYTES 16
#define TYPE 0 /* offsets in it: the type of a control packet, a sequence number in the others */
#define INFORMATION 4
#define TIMESTAMP 8
#define DESTINATION 12

enum control { HANDSHAKE = 0x8000, KEEPALIVE = 0x8001, ACK = 0x8002, SHUTDOWN = 0x8005, ACKACK = 0x8006 };

#define HANDSHAKE_BYTES 64 /* section 3.2.1, without extensions */
#define VERSION 16         /* offsets in it */
#define EXTENSIONS 20      /* with the encryption, which is none */
#define INITIAL_SEQUENCE 24
#define MTU 28
#define FLOW_WINDOW 32
#define HANDSHAKE_TYPE 36
#define SOCKET_ID 40
#define COOKIE 44
#define PEER_IP 48

#define INDUCTION 1
#define CONCLUSION 0xffffffff
#define REJECTION 1000 /* and above, by the reason */
#define MAGIC 0x4a17   /* the listener's extensions in its induction */
#define HSREQ_AND_CONFIG 5
#define HSREQ 1
#define HSRSP 2
#define SID 5
#define HS_BYTES 12 /* of the content of HSREQ and HSRSP */
#define MAX_STREAM_ID_BYTES 512

#define ACK_BYTES 44       /* of a full acknowledgement */
#define SHORT_BYTES 20     /* of the other control packets: libsrt adds an empty word to their header */
#define PAYLOAD_BYTES 1316 /* seven packets of MPEG-TS */
#define TS_HEADER_BYTES 4
#define TS_NULL 0x471fff10 /* the header of a packet without content */
#define SEQUENCE_MASK 0x7fffffff
#define SINGLE_MESSAGE 0xe0000000 /* the packet is a message of its own, which is delivered in order */
#define MESSAGE_MASK 0x3ffffff

/* Both ends have ids from which the session's number is told. */
#define CLIENT_IDS 0x1b000000U
#define ORIGIN_IDS 0x2e000000U

/* 2.6 Mbit/s. */
#define PACKETS_PER_SECOND 250
/* Full acknowledgements are as far apart. */
#define ACKNOWLEDGE_NS (10 * NS_PER_MS)
/* How long an end is silent at most. */
#define KEEPALIVE_NS NS_PER_SECOND

/* Publishers have "m=publish" in their stream id, all others are players. */
static bool sends(const struct session *session, enum direction direction)
{
    static const char publish[] = "m=publish";
    bool publishes = memmem(session->request, session->request_size, publish, sizeof publish - 1);
    return publishes == (direction == TO_ORIGIN);
}

static uint32_t initial_sequence(const struct session *session)
{
    return session->number * 0x9e3779b1U & SEQUENCE_MASK;
}

/* The id of the end that a packet in this direction is for. */
static uint32_t destination(const struct session *session, enum direction direction)
{
    return (direction == TO_ORIGIN ? ORIGIN_IDS : CLIENT_IDS) + session->number;
}

static void write_header(uint8_t *packet, const struct session *session, uint32_t first, uint32_t second, uint32_t to)
{
    write_be(packet + TYPE, 4, first);
    write_be(packet + INFORMATION, 4, second);
    write_be(packet + TIMESTAMP, 4, (uint32_t)((now_ns() - session->asked_at) / 1000));
    write_be(packet + DESTINATION, 4, to);
}

/* ---- Packets ---- */

static size_t write_packet(uint8_t packet[PACKET_BYTES], const struct session *session, const struct mark *mark)
{
    write_header(packet, session, (initial_sequence(session) + mark->sequence) & SEQUENCE_MASK,
                 SINGLE_MESSAGE | ((mark->sequence + 1) & MESSAGE_MASK),
                 destination(session, mark->to_origin ? TO_ORIGIN : TO_CLIENT));
    write_be(packet + HEADER_BYTES, TS_HEADER_BYTES, TS_NULL);
    memcpy(packet + HEADER_BYTES + TS_HEADER_BYTES, mark, sizeof *mark);
    return HEADER_BYTES + PAYLOAD_BYTES;
}

static bool read_packet(const struct datagram *datagram, struct mark *mark)
{
    memcpy(mark, datagram->head + HEADER_BYTES + TS_HEADER_BYTES, sizeof *mark);
    return datagram->size == HEADER_BYTES + PAYLOAD_BYTES;
}

/* ---- Control packets of an open session: the last word is the number of the measurement, which libsrt has no use for
 * but in an acknowledgement, where it is a rate that nobody has to believe ---- */

static size_t control_size(uint32_t type)
{
    return type == ACK ? ACK_BYTES : SHORT_BYTES;
}

static void send_control(struct session *session, enum direction direction, enum control type, uint32_t information)
{
    uint8_t packet[ACK_BYTES] = {0};
    size_t size = control_size(type);
    write_header(packet, session, (uint32_t)type << 16, information, destination(session, direction));
    if (type == ACK) {
        enum direction acknowledged = direction == TO_ORIGIN ? TO_CLIENT : TO_ORIGIN;
        const uint32_t words[] = {(initial_sequence(session) + session->expected[acknowledged]) & SEQUENCE_MASK,
                                  1000 /* round trip, us */, 500 /* its variance */, 8000 /* free buffers */,
                                  PACKETS_PER_SECOND, 1000 /* link capacity */};
        for (size_t i = 0; i < sizeof words / sizeof *words; i++)
            write_be(packet + HEADER_BYTES + 4 * i, 4, words[i]);
    }
    write_be(packet + size - 4, 4, session->load->measurement);
    session_send_counted(session, direction, packet, size);
}

/* Those that are to acknowledge, in the order in which they are: all wait equally long. */
static struct session *first_waiting, **last_waiting = &first_waiting;

static void acknowledge_later(struct session *session, uint64_t now)
{
    if (session->srt.acknowledge_at)
        return;
    session->srt.acknowledge_at = now + ACKNOWLEDGE_NS;
    session->srt.next = NULL;
    *last_waiting = session;
    last_waiting = &session->srt.next;
}

static uint64_t send_due(uint64_t now)
{
    struct session *session;
    while ((session = first_waiting) && session->srt.acknowledge_at <= now) {
        struct load *load = session->load;
        if (load->measurement && now - session->srt.acknowledge_at > LATE_NS)
            load->counters.late++;
        first_waiting = session->srt.next;
        if (!first_waiting)
            last_waiting = &first_waiting;
        session->srt.acknowledge_at = 0;
        send_control(session, sends(session, TO_ORIGIN) ? TO_CLIENT : TO_ORIGIN, ACK, ++session->srt.acknowledgements);
    }
    return session ? session->srt.acknowledge_at : NEVER;
}

/* Takes anything but handshakes, at the end that this direction leads to. */
static bool take(struct session *session, enum direction direction, const struct datagram *datagram)
{
    struct mark mark;
    uint32_t type = read_be(datagram->head + TYPE, 2);
    if (!(type & 0x8000)) {
        if (!read_packet(datagram, &mark) || !session_take(session, direction, &mark, datagram))
            return false;
        acknowledge_later(session, datagram->at);
        return true;
    }
    if (type == SHUTDOWN)
        die("session %u of %u was shut down", session->number + 1, session->load->count);
    if ((type != ACK && type != ACKACK && type != KEEPALIVE) || datagram->size != control_size(type) ||
        (direction == TO_ORIGIN && !session_is_from_peer(session, datagram)))
        return false;
    session_count(session, direction, read_be(datagram->head + datagram->size - 4, 4), datagram->size);
    if (type == ACK)
        send_control(session, direction == TO_ORIGIN ? TO_CLIENT : TO_ORIGIN, ACKACK,
                     read_be(datagram->head + INFORMATION, 4));
    return true;
}

static uint64_t keep(struct session *session, uint64_t now)
{
    uint64_t next = NEVER;
    for (enum direction direction = 0; direction < DIRECTIONS; direction++) {
        if (now >= session->sent_at[direction] + KEEPALIVE_NS)
            send_control(session, direction, KEEPALIVE, 0);
        if (session->sent_at[direction] + KEEPALIVE_NS < next)
            next = session->sent_at[direction] + KEEPALIVE_NS;
    }
    return next;
}

/* ---- The handshake, section 4.3.1 ---- */

static size_t write_handshake(uint8_t *packet, const struct session *session, enum direction direction, uint32_t type,
                              uint32_t cookie)
{
    memset(packet, 0, HANDSHAKE_BYTES);
    bool from_client = direction == TO_ORIGIN, first = from_client && type == INDUCTION;
    uint32_t extensions = type == INDUCTION ? (from_client ? 2 : MAGIC) : (from_client ? HSREQ_AND_CONFIG : HSREQ);
    /* The origin has no id for the session before it has concluded. */
    uint32_t id = (type == INDUCTION || from_client ? CLIENT_IDS : ORIGIN_IDS) + session->number;
    write_header(packet, session, (uint32_t)HANDSHAKE << 16, 0, from_client ? 0 : CLIENT_IDS + session->number);
    write_be(packet + VERSION, 4, first ? 4 : 5);
    write_be(packet + EXTENSIONS, 4, extensions);
    write_be(packet + INITIAL_SEQUENCE, 4, initial_sequence(session));
    write_be(packet + MTU, 4, 1500);
    write_be(packet + FLOW_WINDOW, 4, 8192);
    write_be(packet + HANDSHAKE_TYPE, 4, type);
    write_be(packet + SOCKET_ID, 4, id);
    write_be(packet + COOKIE, 4, cookie);
    write_be(packet + PEER_IP, 4, 0x0100007f);
    return HANDSHAKE_BYTES;
}

/* HSREQ or HSRSP as of libsrt 1.5.1 in live mode, with a latency of 120 ms. */
static size_t write_hs(uint8_t *extension, uint32_t type)
{
    const uint32_t words[] = {type << 16 | HS_BYTES / 4, 0x10501, 0xbf, 120 << 16 | 120};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        write_be(extension + 4 * i, 4, words[i]);
    return sizeof words;
}

/* The bytes of each word of it are in reverse order, section 3.2.1.3. */
static size_t write_stream_id(uint8_t *extension, const struct session *session)
{
    size_t words = (session->request_size + 3) / 4;
    write_be(extension, 4, (uint32_t)(SID << 16 | words));
    memset(extension + 4, 0, 4 * words);
    for (size_t i = 0; i < session->request_size; i++)
        extension[4 + (i ^ 3)] = session->request[i];
    return 4 + 4 * words;
}

/* The induction, or the conclusion if that was answered. */
static void ask(struct session *session)
{
    uint8_t packet[HANDSHAKE_BYTES + 4 + HS_BYTES + 4 + MAX_STREAM_ID_BYTES];
    uint32_t cookie = session->srt.cookie;
    if (session->request_size > MAX_STREAM_ID_BYTES)
        die("a stream id of %zu bytes", session->request_size);
    size_t size = write_handshake(packet, session, TO_ORIGIN, cookie ? CONCLUSION : INDUCTION, cookie);
    if (cookie) {
        size += write_hs(packet + size, HSREQ);
        size += write_stream_id(packet + size, session);
    }
    session_send(session, TO_ORIGIN, packet, size);
}

static bool is_handshake(const struct datagram *datagram)
{
    return datagram->size >= HANDSHAKE_BYTES && read_be(datagram->head + TYPE, 2) == HANDSHAKE;
}

static bool client_take(struct session *session, const struct datagram *datagram)
{
    if (datagram->size < HEADER_BYTES || read_be(datagram->head + DESTINATION, 4) != CLIENT_IDS + session->number)
        return false;
    if (!is_handshake(datagram))
        return take(session, TO_CLIENT, datagram);
    uint32_t type = read_be(datagram->head + HANDSHAKE_TYPE, 4);
    if (type == INDUCTION && !session->srt.cookie) {
        session->srt.cookie = read_be(datagram->head + COOKIE, 4);
        ask(session);
    } else if (type == CONCLUSION) {
        if (read_be(datagram->head + SOCKET_ID, 4) != ORIGIN_IDS + session->number)
            return false;
        session_opened(session, KEEPALIVE_NS);
    } else if (type >= REJECTION) {
        die("session %u of %u was rejected: %u", session->number + 1, session->load->count, type);
    }
    return true;
}

/* As of a listener that keeps nothing before the conclusion: of the client's address; never 0. */
static uint32_t cookie_for(const struct sockaddr_in *address)
{
    return (address->sin_addr.s_addr ^ (uint32_t)address->sin_port << 8) * 0x9e3779b1U | 1;
}

/* Answers as a listener does: a conclusion with another cookie not at all, a repeated one again in the same way. */
static void answer_handshake(struct session *session, const struct datagram *datagram)
{
    uint8_t packet[HANDSHAKE_BYTES + 4 + HS_BYTES];
    uint32_t type = read_be(datagram->head + HANDSHAKE_TYPE, 4);
    uint32_t cookie = cookie_for(datagram->from);
    if (type != INDUCTION && (type != CONCLUSION || read_be(datagram->head + COOKIE, 4) != cookie))
        return;
    session->peer = *datagram->from;
    size_t size = write_handshake(packet, session, TO_CLIENT, type, cookie);
    if (type == CONCLUSION)
        size += write_hs(packet + size, HSRSP);
    session_send(session, TO_CLIENT, packet, size);
}

static bool origin_take(struct load *load, const struct datagram *datagram)
{
    if (datagram->size < HEADER_BYTES)
        return false;
    bool handshake = is_handshake(datagram);
    uint32_t number = handshake ? read_be(datagram->head + SOCKET_ID, 4) - CLIENT_IDS
                                : read_be(datagram->head + DESTINATION, 4) - ORIGIN_IDS;
    if (number >= load->count)
        return false;
    if (!handshake)
        return take(load->sessions[number], TO_ORIGIN, datagram);
    answer_handshake(load->sessions[number], datagram);
    return true;
}

const struct protocol srt = {
    .pace = PACKETS_PER_SECOND,
    .sends = sends,
    .write = write_packet,
    .ask = ask,
    .keep = keep,
    .client_take = client_take,
    .origin_take = origin_take,
    .send_due = send_due,
};
