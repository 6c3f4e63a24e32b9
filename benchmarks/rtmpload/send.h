/* Sending on a session: messages become chunks, chunks become writes in the session's style, and what the kernel does not
 * take at once is kept. Trouble is told by session_fail(). */
#ifndef RTMPLOAD_SEND_H
#define RTMPLOAD_SEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "chunk.h"
#include "media.h"
#include "session.h"

/* Message streams as clients and SRS number them. */
enum { NO_STREAM = 0, THE_STREAM = 1 };

/* Registers the session with epoll (operation as in epoll_ctl), for reading and if need be for writing. */
void watch(struct session *session, int operation, bool writable);

void send_bytes(struct session *session, const void *data, size_t size);
void send_message(struct session *session, const struct message *message);

/* A protocol control message or user control message. */
void send_control(struct session *session, enum message_type type, const uint8_t *data, size_t size);
void send_number(struct session *session, enum message_type type, uint32_t value);
void send_chunk_size(struct session *session);

/* Media, a sequence header, or metadata. */
void send_tag(struct session *session, const struct tag *tag);
void send_metadata(struct session *session, const struct amf *metadata);

/* Sends what was kept; for when the socket is writable. */
void send_unsent(struct session *session);

#endif
