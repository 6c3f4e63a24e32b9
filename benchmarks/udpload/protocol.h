/* What WebRTC and SRT have in common for this program, and what each of them has of its own. */
#ifndef UDPLOAD_PROTOCOL_H
#define UDPLOAD_PROTOCOL_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct load;
struct session;

enum direction { TO_CLIENT, TO_ORIGIN, DIRECTIONS };

/* The largest packet of either protocol. */
#define PACKET_BYTES 1332

/* What to receive of a packet: all that is looked at. */
#define HEAD_BYTES 64

/* Is in the payload of each packet. Both ends are this program: no byte order. */
struct mark {
    uint64_t sent_at;     /* now_ns() */
    uint32_t session;     /* its number */
    uint32_t sequence;    /* of this session and direction, from 0 */
    uint32_t measurement; /* in which it counts; 0 if in none */
    uint32_t to_origin;   /* 1, or 0 if to the client */
};

struct datagram {
    const uint8_t *head; /* HEAD_BYTES; what is behind the size is of an earlier one */
    size_t size;         /* of all of it */
    const struct sockaddr_in *from;
    uint64_t at; /* when it was received, now_ns() */
};

struct protocol {
    /* Packets per second of a session while it sends: it sends those of a second in a row, and then none. 0 if it sends
     * evenly. */
    unsigned pace;

    /* Whether the session sends packets in that direction. */
    bool (*sends)(const struct session *session, enum direction direction);

    /* Writes the beginning of a packet, and returns the size of all of it. */
    size_t (*write)(uint8_t packet[PACKET_BYTES], const struct session *session, const struct mark *mark);

    /* Sends the client's next request to open the session, again if there was no answer. */
    void (*ask)(struct session *session);

    /* Sends what shows that an open session is still there; returns when to call it again. */
    uint64_t (*keep)(struct session *session, uint64_t now);

    /* Take what has arrived at the client, or at the origin. False if it is for somebody else, or nothing known. */
    bool (*client_take)(struct session *session, const struct datagram *datagram);
    bool (*origin_take)(struct load *load, const struct datagram *datagram);

    /* Sends what is due by now, besides packets and requests; returns when the next of that is due. */
    uint64_t (*send_due)(uint64_t now);
};

#define NEVER UINT64_MAX

/* RTP one way and the other, signalled by others: a session begins with the STUN request that it is given. */
extern const struct protocol rtc;

/* Publishers and players with libsrt's handshake and acknowledgements: a session begins with a stream id. */
extern const struct protocol srt;

#endif
