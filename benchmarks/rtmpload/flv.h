/* HTTP-FLV: the player's request and what it reads, and the origin's side, which writes as SRS does. */
#ifndef RTMPLOAD_FLV_H
#define RTMPLOAD_FLV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base.h"
#include "media.h"

struct session;

/* SRS gathers the frames of so long a time, and writes them as one HTTP chunk with one writev(). */
#define FLV_BATCH_NS (350 * NS_PER_MS)

#define FLV_TAG_HEADER 11
/* The longest head of a request or response, which a proxy may have added to. */
#define HTTP_HEAD_MAX 4096

struct flv_reader {
    char line[HTTP_HEAD_MAX + 1]; /* the HTTP head; in the body a line that begins a chunk */
    size_t line_size;
    bool in_body;
    bool chunked;
    uint64_t chunk_left; /* bytes of the chunk that are still to come */
    bool in_tags;        /* past the FLV file header */
    uint8_t head[FLV_TAG_HEADER + STAMP_REACH]; /* of the tag being read */
    size_t head_size;
    size_t skip; /* bytes until the next tag begins */
};

/* Sends a player's request. */
void flv_request(struct session *session);

/* Takes received bytes, in either role. Players are live from the FLV header on, the origin's side from the request. */
void flv_receive(struct session *session, const uint8_t *data, size_t size);

/* Sends the frames of one batch, each with the stamp. */
void flv_send_batch(struct session *session, uint64_t stamp);

#endif
