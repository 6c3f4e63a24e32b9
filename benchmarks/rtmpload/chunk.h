/* RTMP's chunk stream (section 5.3 of the specification): an incremental reader, and messages laid out for writev(). */
#ifndef RTMPLOAD_CHUNK_H
#define RTMPLOAD_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum message_type {
    SET_CHUNK_SIZE = 1,
    ACKNOWLEDGEMENT = 3,
    USER_CONTROL = 4,
    WINDOW_ACKNOWLEDGEMENT_SIZE = 5,
    SET_PEER_BANDWIDTH = 6,
    AUDIO = 8,
    VIDEO = 9,
    DATA = 18,
    COMMAND = 20,
};

/* The chunk size of both directions until a SetChunkSize. */
#define DEFAULT_CHUNK_SIZE 128
/* How much of each received message is kept: all of every command (SRS's answer to connect, the longest, has 848
 * bytes), and of media the head with the stamp. */
#define CHUNK_HEAD_KEPT 1024
/* Chunk stream ids below this have a header of one byte; neither clients nor origins use others unasked. */
#define CHUNK_STREAMS 64

struct received_message {
    uint8_t type;
    uint32_t length;
    const uint8_t *head;
    size_t head_size;
};

struct chunk_reader {
    uint32_t chunk_size;
    struct chunk_stream {
        uint32_t length;
        uint8_t type;
        bool extended;
        bool known;
    } streams[CHUNK_STREAMS];
    uint8_t header[16]; /* the header being read: 1 + 11 + 4 bytes at most */
    size_t header_size;
    unsigned current;       /* chunk stream of the chunk being read */
    bool in_message;        /* between the first byte and the last of a message */
    uint32_t message_left;  /* bytes of the message that are still to come */
    uint32_t chunk_left;    /* and of them, how many in this chunk */
    uint8_t head[CHUNK_HEAD_KEPT];
    size_t head_size;
};

void chunk_reader_start(struct chunk_reader *reader);

/* Feeds received bytes; calls on_message for each complete message. Returns NULL, or what is wrong with the bytes. */
const char *chunk_read(struct chunk_reader *reader, const uint8_t *data, size_t size,
                       void (*on_message)(void *owner, const struct received_message *message), void *owner);

struct message {
    unsigned format;       /* 0: full header; 1: time is a delta, the message stream id is the last one's */
    unsigned chunk_stream;
    uint32_t time;         /* ms, below 0xffffff: a run is shorter than the 4.6 hours that need an extended one */
    uint8_t type;
    uint32_t message_stream;
    struct iovec payload[2];
};

#define MAX_CHUNKS 20 /* a key frame of 48 KB and a bit in chunks of 4096 bytes, with some room */
#define MAX_PARTS (MAX_CHUNKS * 2 + 1)

/* A message as the byte ranges that go on the wire; it points into itself and must not be copied. */
struct chunk_layout {
    uint8_t header[12];
    uint8_t continuation;
    struct iovec parts[MAX_PARTS];
    size_t count;
    size_t chunk_starts[MAX_CHUNKS]; /* index into parts */
    size_t chunks;
};

void chunk_lay_out(struct chunk_layout *layout, const struct message *message, uint32_t chunk_size);

#endif
