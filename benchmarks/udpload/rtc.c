#include <string.h>
#include <sys/socket.h>

#include "base.h"
#include "protocol.h"
#include "session.h"

#define VIDEO_BYTES 1200
#define AUDIO_BYTES 160

#define RTP_HEADER_BYTES 12
#define RTP_VERSION 0x80
#define PAYLOAD_TYPE 1 /* offsets in the RTP header, RFC 3550, section 5.1 */
#define SEQUENCE_NUMBER 2
#define SYNCHRONIZATION_SOURCE 8
#define VIDEO 96
#define AUDIO 111

#define STUN_HEADER_BYTES 20
#define BINDING_SUCCESS 0x0101
#define COOKIE_AND_TRANSACTION 4 /* offset in the STUN header */
#define SESSION 16

/* Chrome's interval of the requests by which clients check whether they are still welcome (RFC 7675). The sessions'
 * requests are spread over it. */
#define CONSENT_NS (2500 * NS_PER_MS)

/* ---- Packets: two of video, then one of audio, as in a call ---- */

static bool sends(const struct session *session, enum direction direction)
{
    (void)session, (void)direction;
    return true;
}

static bool is_audio(uint32_t sequence)
{
    return sequence % 3 == 2;
}

static size_t packet_size(uint32_t sequence)
{
    return is_audio(sequence) ? AUDIO_BYTES : VIDEO_BYTES;
}

static size_t write_packet(uint8_t packet[PACKET_BYTES], const struct session *session, const struct mark *mark)
{
    packet[0] = RTP_VERSION;
    packet[PAYLOAD_TYPE] = is_audio(mark->sequence) ? AUDIO : VIDEO;
    write_be(packet + SEQUENCE_NUMBER, 2, mark->sequence);
    write_be(packet + SYNCHRONIZATION_SOURCE, 4, session->number);
    memcpy(packet + RTP_HEADER_BYTES, mark, sizeof *mark);
    return packet_size(mark->sequence);
}

static bool read_packet(const struct datagram *datagram, struct mark *mark)
{
    if (datagram->size < RTP_HEADER_BYTES + sizeof *mark || datagram->head[0] != RTP_VERSION)
        return false;
    memcpy(mark, datagram->head + RTP_HEADER_BYTES, sizeof *mark);
    return datagram->size == packet_size(mark->sequence);
}

/* ---- STUN ---- */

/* RFC 8489, section 5: the first two bits are 0. RTP has 2 there, and DTLS a byte from 20 on. */
static bool is_stun(const struct datagram *datagram)
{
    return datagram->size >= STUN_HEADER_BYTES && datagram->head[0] < 4;
}

/* The session of a STUN message: the last four bytes of the transaction id, as the benchmark makes them. */
static uint32_t stun_session(const struct datagram *datagram)
{
    return read_be(datagram->head + SESSION, 4);
}

static void ask(struct session *session)
{
    session_send(session, TO_ORIGIN, session->request, session->request_size);
}

static uint64_t keep(struct session *session, uint64_t now)
{
    ask(session);
    return now + CONSENT_NS;
}

/* A Binding success response without attributes. */
static void answer(struct session *session, const struct datagram *request)
{
    uint8_t bytes[STUN_HEADER_BYTES];
    write_be(bytes, COOKIE_AND_TRANSACTION, BINDING_SUCCESS << 16);
    memcpy(bytes + COOKIE_AND_TRANSACTION, request->head + COOKIE_AND_TRANSACTION,
           STUN_HEADER_BYTES - COOKIE_AND_TRANSACTION);
    session->peer = *request->from;
    session_send(session, TO_CLIENT, bytes, sizeof bytes);
}

static bool client_take(struct session *session, const struct datagram *datagram)
{
    struct mark mark;
    if (!is_stun(datagram) || stun_session(datagram) != session->number)
        return read_packet(datagram, &mark) && session_take(session, TO_CLIENT, &mark, datagram);
    session_opened(session, CONSENT_NS * session->number / session->load->count);
    return true;
}

static bool origin_take(struct load *load, const struct datagram *datagram)
{
    struct mark mark;
    if (!is_stun(datagram) || stun_session(datagram) >= load->count)
        return read_packet(datagram, &mark) && mark.session < load->count &&
               session_take(load->sessions[mark.session], TO_ORIGIN, &mark, datagram);
    answer(load->sessions[stun_session(datagram)], datagram);
    return true;
}

static uint64_t send_due(uint64_t now)
{
    (void)now;
    return NEVER;
}

const struct protocol rtc = {
    .sends = sends,
    .write = write_packet,
    .ask = ask,
    .keep = keep,
    .client_take = client_take,
    .origin_take = origin_take,
    .send_due = send_due,
};
