/* The sessions: a socket for each client, and one for the origin that all of them meet.
 *
 * A session is open when its STUN request has been answered. From then on it can send both ways, and it repeats the
 * request as clients do that check whether they are still welcome (RFC 7675). */
#ifndef UDPLOAD_SESSION_H
#define UDPLOAD_SESSION_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "samples.h"

enum direction { TO_CLIENT, TO_ORIGIN, DIRECTIONS };

struct session {
    struct load *load;
    uint32_t number;
    int fd; /* the client's, connected to the target */
    uint8_t *request;
    size_t request_size;
    uint64_t asked_at; /* when the first request was sent */
    uint64_t ask_at;   /* when to send the next */
    bool open;
    struct sockaddr_in peer; /* where the origin has seen the client */
    uint32_t sent[DIRECTIONS];     /* packets */
    uint32_t expected[DIRECTIONS]; /* the sequence number behind the highest that was received */
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
    int epoll;
    int origin;
    struct sockaddr_in target; /* of the clients */
    struct session **sessions;
    uint32_t count;
    uint32_t open;
    uint32_t measurement; /* the number of the one that goes on; 0 if none does */
    uint32_t awaited;     /* the number of the latest: what was sent may still be on its way when it is over */
    struct samples set_up; /* from the first STUN request to its answer, of the sessions opened last */
    struct counters counters;
};

/* Binds the origin's socket, to 127.0.0.1. */
void origin_open(struct load *load, unsigned port);

/* A session more, which is not open yet. Takes the request over. */
void session_add(struct load *load, uint8_t *request, size_t request_size);

/* Sends the STUN request if it is time to: the first, one that has got no answer, or one now and then. */
void session_ask(struct session *session, uint64_t now);

/* Sends a burst of packets. */
void session_emit(struct session *session, enum direction direction, unsigned burst, bool late);

/* Take what has been received, a batch at a time. */
void session_receive(struct session *session);
void origin_receive(struct load *load);

#endif
