/* One connection: an RTMP publisher or player that behaves like ffmpeg, or an HTTP-FLV player, or the origin's side.
 *
 * The dialogue ends when the session is live: a publisher (or the origin of a player) then emits media when session_emit()
 * is called; a player (or the origin of a publisher) measures the media that it receives. */
#ifndef RTMPLOAD_SESSION_H
#define RTMPLOAD_SESSION_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "chunk.h"
#include "flv.h"
#include "measure.h"
#include "media.h"

/* How a program cuts its messages: into chunks, and the chunks into writes. */
struct style {
    const char *name;
    uint32_t chunk_size;
    bool chunk_size_first; /* SetChunkSize before connect, as OBS does, or after it */
    unsigned audio_chunk_stream;
    unsigned video_chunk_stream;
    bool full_headers; /* each message starts with a full header */
    enum { WRITE_MESSAGES, WRITE_HEADERS_APART, WRITE_CHUNKS } writes;
};

/* The style of that name; NULL if there is none. */
const struct style *find_style(const char *name);

/* The acknowledgement window that both sides announce, as ffmpeg and SRS have it. */
#define WINDOW_BYTES 2500000

/* What all sessions of a process share. */
struct load {
    int epoll;
    struct sockaddr_in target;
    char authority[32]; /* the target as text, HOST:PORT */
    const char *name;     /* streams are called <name>-<number> */
    unsigned sessions;
    unsigned streams;     /* how many names there are: player i plays stream i modulo this */
    bool http;            /* HTTP-FLV instead of RTMP: players only */
    bool idle;            /* publishers send no media at all */
    bool quick_ack;       /* clients acknowledge at once what they receive during the dialogue */
    struct session **clients; /* by number; NULL before they have begun to connect, and when they have closed */
    unsigned emitters;    /* origin sessions that were given a schedule so far */
    struct samples set_up; /* from a client's first byte to the answer that makes it live */
    struct counters counters;
};

enum role { PUBLISHER, PLAYER, ORIGIN };

struct session {
    struct load *load;
    int fd;
    enum role role;
    unsigned number;
    const struct style *style;
    bool live;
    bool emits;
    char problem[160]; /* why the session cannot go on; empty while it can */

    enum { CONNECTING, HANDSHAKING, CHUNKS } stage;
    uint8_t *handshake; /* only while handshaking */
    size_t handshake_size;
    uint64_t first_byte_at;

    struct chunk_reader reader;
    struct flv_reader flv;
    uint64_t received;
    uint64_t received_before; /* the mark */
    uint64_t acknowledged;
    uint32_t out_chunk_size;
    int transaction;   /* id of the latest command */
    int create_stream; /* and of createStream */
    uint64_t used_chunk_streams;       /* one bit each: the first message of a chunk stream needs a full header */
    uint32_t last_time[CHUNK_STREAMS]; /* ms, for the deltas of format 1 */

    uint8_t *unsent;
    size_t unsent_size;
    bool blocked; /* a frame became due while earlier bytes were unsent */
    struct media media;
    uint64_t batch_due; /* HTTP: when the frames before that are sent, all at once */
};

/* Starts to connect to the target. */
struct session *session_connect(struct load *load, enum role role, unsigned number, const struct style *style);

/* The origin's side of a connection that was accepted. */
struct session *session_accepted(struct load *load, int fd);

/* Notes why the session cannot go on; the first reason counts. */
void session_fail(struct session *session, const char *problem);

/* Serve what epoll reported. On trouble the session's problem is set; it is for the caller to close it. */
void session_readable(struct session *session);
void session_writable(struct session *session);

/* When the session has something to send, in now_ns() time. */
uint64_t session_due(const struct session *session);

/* Sends the frame, or the batch, that is due. False if earlier bytes are still unsent: then the session is blocked, and
 * can be asked again once it is not. */
bool session_emit(struct session *session, uint64_t now);

void session_close(struct session *session);

#endif
