/* The sessions: a socket for each client, and one for the origin that all of them meet. */
#ifndef UDPLOAD_SESSION_H
#define UDPLOAD_SESSION_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol.h"
#include "samples.h"

/* What SRT keeps of a session. */
struct srt {
    uint32_t cookie;           /* what the client was told; 0 if nothing yet */
    uint32_t acknowledgements; /* sent so far, by the one end that receives packets */
    uint64_t acknowledge_at;   /* 0 if there is nothing to acknowledge */
    struct session *next;      /* that is to acknowledge */
};

struct session {
    struct load *load;
    uint32_t number;
    int fd; /* the client's, connected to the target */
    uint8_t *request; /* what it begins with, as the protocol has it */
    size_t request_size;
    uint64_t asked_at; /* when the first request was sent */
    uint64_t ask_at;   /* when to send the next */
    bool open;
    struct sockaddr_in peer; /* where the origin has seen the client */
    uint32_t sent[DIRECTIONS];     /* packets, without those that carry no media */
    uint32_t expected[DIRECTIONS]; /* the sequence number behind the highest that was received */
    uint64_t sent_at[DIRECTIONS];  /* when anything was sent the last time */
    struct srt srt;
};

struct counters {
    uint64_t since; /* now_ns() of the mark */
    uint64_t sent[DIRECTIONS]; /* packets, as the rest */
    uint64_t received[DIRECTIONS];
    uint64_t overtaken[DIRECTIONS]; /* received behind one that was sent later */
    uint64_t strayed;               /* received by somebody else, or not as they were sent; never forgotten */
    uint64_t late;                  /* sent more than LATE_NS after they were due */
    uint64_t sent_bytes;
    uint64_t received_bytes;
    struct samples latency;
};

#define LATE_NS NS_PER_MS

/* How many packets a session may send at once. */
#define MAX_BURST 64

/* What all sessions share. */
struct load {
    const struct protocol *protocol;
    int epoll;
    int origin;
    struct sockaddr_in target; /* of the clients */
    struct session **sessions;
    uint32_t count;
    uint32_t open;
    uint32_t measurement; /* the number of the one that goes on; 0 if none does */
    uint32_t awaited;     /* the number of the latest: what was sent may still be on its way when it is over */
    struct samples set_up; /* from the first request to the answer that opens, of the sessions opened last */
    struct counters counters;
};

/* Binds the origin's socket, to 127.0.0.1. */
void origin_open(struct load *load, unsigned port);

/* A session more, which is not open yet. Takes the request over. */
void session_add(struct load *load, uint8_t *request, size_t request_size);

/* Sends what it is time for: the first request, one more if that is not answered, or what an open session sends now and
 * then. */
void session_ask(struct session *session, uint64_t now);

/* The client has got the answer that opens the session; once is enough.
 * pause: when to call the protocol's keep() for the first time, from now on. */
void session_opened(struct session *session, uint64_t pause);

/* Sends a burst of packets. */
void session_emit(struct session *session, enum direction direction, unsigned burst, bool late);

/* Sends a datagram of the protocol's own, which is not counted. */
void session_send(struct session *session, enum direction direction, const uint8_t *bytes, size_t size);

/* The same, counted as a packet. It has to carry the number of the current measurement, by which it counts when it is
 * received. */
void session_send_counted(struct session *session, enum direction direction, const uint8_t *bytes, size_t size);

/* Counts a datagram that was sent so.
 * measurement: the number that it carries. */
void session_count(struct session *session, enum direction direction, uint32_t measurement, size_t size);

/* Takes a packet, and counts it. False if the mark is that of another session or direction, or another has sent it. */
bool session_take(struct session *session, enum direction direction, const struct mark *mark,
                  const struct datagram *datagram);

/* Whether the origin has got the datagram from where the session's client is for it. */
bool session_is_from_peer(const struct session *session, const struct datagram *datagram);

/* Take what has been received, a batch at a time. */
void session_receive(struct session *session);
void origin_receive(struct load *load);

#endif
