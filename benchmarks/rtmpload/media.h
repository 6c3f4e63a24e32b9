/* The streams that are published: what a camera's encoder would send, sizes and times, with a stamp in each frame. */
#ifndef RTMPLOAD_MEDIA_H
#define RTMPLOAD_MEDIA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "amf.h"
#include "base.h"

/* 25 frames a second, a key frame each 2 s: 49 frames of 12,000 bytes on average and one of 48,000 are 2.54 Mbit/s;
 * AAC frames of 1024 samples at 44.1 kHz, 370 bytes each, add 0.13 Mbit/s. */
#define VIDEO_INTERVAL_NS (40 * NS_PER_MS)
#define GOP_FRAMES 50
#define INTER_FRAME_MIN 9000
#define INTER_FRAME_SPAN 6001
#define KEY_FRAME_BYTES 48000
#define AUDIO_INTERVAL_NS (1024 * NS_PER_SECOND / 44100)
#define AUDIO_FRAME_BYTES 370

/* One stream's place in its schedule. */
struct media {
    uint64_t start;
    uint32_t video_frames;
    uint32_t audio_frames;
};

/* An FLV tag's body: a head of its own and a body that all tags share. */
struct tag {
    bool video;
    uint32_t time; /* ms since the stream's start */
    uint8_t head[64];
    size_t head_size;
    const uint8_t *body;
    size_t body_size;
};

/* Starts at the next time that suits the stream's number: key frames of all streams are spread over the GOP, their
 * frames over the frame interval. */
void media_start(struct media *media, unsigned number, unsigned streams);

/* When the next frame is due, in now_ns() time. */
uint64_t media_due(const struct media *media);

/* The frame that is due, stamped if it is video; moves on to the next. */
void media_next(struct media *media, uint64_t stamp, struct tag *tag);

void media_metadata(struct amf *out);
void media_sequence_header(bool video, struct tag *tag);

/* A stamp is within so many bytes of the start of a video message. */
#define STAMP_REACH 34

/* The stamp in a received video message; 0 if it has none. */
uint64_t media_stamp(const uint8_t *data, size_t size);

#endif
