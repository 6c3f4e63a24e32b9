/* What is sent: packets that look like RTP, and STUN answers. */
#ifndef UDPLOAD_PACKET_H
#define UDPLOAD_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VIDEO_BYTES 1200
#define AUDIO_BYTES 160

/* What to receive of a packet: all that is looked at. */
#define HEAD_BYTES 64

/* The beginning of the payload. Both ends are this program: no byte order. */
struct mark {
    uint64_t sent_at;     /* now_ns() */
    uint32_t session;     /* its number */
    uint32_t sequence;    /* of this session and direction, from 0 */
    uint32_t measurement; /* in which it counts; 0 if in none */
    uint32_t to_origin;   /* 1, or 0 if to the client */
};

/* Writes what changes from packet to packet, and returns its size: two of video, then one of audio, as in a call. */
size_t packet_write(uint8_t packet[VIDEO_BYTES], const struct mark *mark);

/* False if the head is not that of a packet of this program, or the packet is not as long as it was. */
bool packet_read(const uint8_t *head, size_t size, struct mark *mark);

#define STUN_HEADER_BYTES 20

/* RFC 8489, section 5: the first two bits are 0. RTP has 2 there, and DTLS a byte from 20 on. */
bool stun_is(const uint8_t *head, size_t size);

/* The session of a STUN message: the last four bytes of the transaction id, as the benchmark makes them. */
uint32_t stun_session(const uint8_t *head);

/* Writes a Binding success response without attributes to the request. */
void stun_answer(uint8_t answer[STUN_HEADER_BYTES], const uint8_t *request);

#endif
