/* The commands of an RTMP session until it is live: a client's, in ffmpeg's order, and an origin's answers. */
#ifndef RTMPLOAD_DIALOGUE_H
#define RTMPLOAD_DIALOGUE_H

#include "chunk.h"
#include "session.h"

/* A client's first command; for after its handshake. */
void dialogue_start(struct session *session);

/* Acts on a command of the other side. */
void dialogue_command(struct session *session, const struct received_message *message);

#endif
