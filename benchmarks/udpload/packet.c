#include "packet.h"

#include <string.h>

#include "base.h"

#define RTP_HEADER_BYTES 12
#define RTP_VERSION 0x80
#define PAYLOAD_TYPE 1 /* offsets in the RTP header, RFC 3550, section 5.1 */
#define SEQUENCE_NUMBER 2
#define SYNCHRONIZATION_SOURCE 8
#define VIDEO 96
#define AUDIO 111

#define BINDING_SUCCESS 0x0101
#define COOKIE_AND_TRANSACTION 4 /* offset in the STUN header */
#define SESSION 16

static bool is_audio(uint32_t sequence)
{
    return sequence % 3 == 2;
}

static size_t packet_size(uint32_t sequence)
{
    return is_audio(sequence) ? AUDIO_BYTES : VIDEO_BYTES;
}

size_t packet_write(uint8_t packet[VIDEO_BYTES], const struct mark *mark)
{
    packet[0] = RTP_VERSION;
    packet[PAYLOAD_TYPE] = is_audio(mark->sequence) ? AUDIO : VIDEO;
    write_be(packet + SEQUENCE_NUMBER, 2, mark->sequence);
    write_be(packet + SYNCHRONIZATION_SOURCE, 4, mark->session);
    memcpy(packet + RTP_HEADER_BYTES, mark, sizeof *mark);
    return packet_size(mark->sequence);
}

bool packet_read(const uint8_t *head, size_t size, struct mark *mark)
{
    if (size < RTP_HEADER_BYTES + sizeof *mark || head[0] != RTP_VERSION)
        return false;
    memcpy(mark, head + RTP_HEADER_BYTES, sizeof *mark);
    return size == packet_size(mark->sequence);
}

bool stun_is(const uint8_t *head, size_t size)
{
    return size >= STUN_HEADER_BYTES && head[0] < 4;
}

uint32_t stun_session(const uint8_t *head)
{
    return read_be(head + SESSION, 4);
}

void stun_answer(uint8_t answer[STUN_HEADER_BYTES], const uint8_t *request)
{
    write_be(answer, 4, BINDING_SUCCESS << 16);
    memcpy(answer + COOKIE_AND_TRANSACTION, request + COOKIE_AND_TRANSACTION,
           STUN_HEADER_BYTES - COOKIE_AND_TRANSACTION);
}
