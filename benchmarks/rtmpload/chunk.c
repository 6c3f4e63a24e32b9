#include "chunk.h"

#include <string.h>

#include "base.h"

/* Bytes of the message header by format, the basic header's one byte not counted. */
static const size_t HEADER_SIZES[4] = {11, 7, 3, 0};
#define EXTENDED_TIMESTAMP 0xffffff

void chunk_reader_start(struct chunk_reader *reader)
{
    memset(reader, 0, sizeof *reader);
    reader->chunk_size = DEFAULT_CHUNK_SIZE;
}

/* How many bytes the header has that is being read; it can grow as more of it is known. */
static size_t header_needed(const struct chunk_reader *reader)
{
    if (!reader->header_size)
        return 1;
    unsigned format = reader->header[0] >> 6;
    size_t needed = 1 + HEADER_SIZES[format];
    if (reader->header_size < needed)
        return needed;
    bool extended = format == 3 ? reader->streams[reader->header[0] & 63].extended
                                : read_be(reader->header + 1, 3) == EXTENDED_TIMESTAMP;
    return needed + (extended ? 4 : 0);
}

static const char *start_chunk(struct chunk_reader *reader)
{
    unsigned format = reader->header[0] >> 6;
    unsigned id = reader->header[0] & 63;
    if (id < 2)
        return "a chunk stream id above 63";
    if (reader->in_message && (id != reader->current || format != 3))
        return "a message that is interleaved with another, or cut short";
    struct chunk_stream *stream = &reader->streams[id];
    if (format > 1 && !stream->known)
        return "a chunk that refers to an earlier one which was never sent";
    if (format < 3)
        stream->extended = read_be(reader->header + 1, 3) == EXTENDED_TIMESTAMP;
    if (format < 2) {
        stream->length = read_be(reader->header + 4, 3);
        stream->type = reader->header[7];
        stream->known = true;
    }
    if (!reader->in_message) {
        reader->in_message = true;
        reader->current = id;
        reader->message_left = stream->length;
        reader->head_size = 0;
    }
    reader->chunk_left = reader->message_left < reader->chunk_size ? reader->message_left : reader->chunk_size;
    reader->header_size = 0;
    return NULL;
}

/* Takes what the current chunk still wants of the data; returns how much that was. */
static size_t take_payload(struct chunk_reader *reader, const uint8_t *data, size_t size)
{
    if (size > reader->chunk_left)
        size = reader->chunk_left;
    size_t kept = CHUNK_HEAD_KEPT - reader->head_size;
    if (kept > size)
        kept = size;
    memcpy(reader->head + reader->head_size, data, kept);
    reader->head_size += kept;
    reader->chunk_left -= (uint32_t)size;
    reader->message_left -= (uint32_t)size;
    return size;
}

const char *chunk_read(struct chunk_reader *reader, const uint8_t *data, size_t size,
                       void (*on_message)(void *owner, const struct received_message *message), void *owner)
{
    while (size) {
        size_t used;
        if (reader->chunk_left) {
            used = take_payload(reader, data, size);
        } else {
            used = header_needed(reader) - reader->header_size;
            if (used > size)
                used = size;
            memcpy(reader->header + reader->header_size, data, used);
            reader->header_size += used;
            if (reader->header_size == header_needed(reader)) {
                const char *problem = start_chunk(reader);
                if (problem)
                    return problem;
            }
        }
        data += used;
        size -= used;
        if (!reader->in_message || reader->message_left)
            continue;
        reader->in_message = false;
        struct chunk_stream *stream = &reader->streams[reader->current];
        if (stream->type == SET_CHUNK_SIZE && reader->head_size >= 4) {
            reader->chunk_size = read_be(reader->head, 4);
            if (!reader->chunk_size || reader->chunk_size >> 31)
                return "an impossible chunk size";
        } else {
            struct received_message message = {stream->type, stream->length, reader->head, reader->head_size};
            on_message(owner, &message);
        }
    }
    return NULL;
}

static void add_part(struct chunk_layout *layout, const void *base, size_t size)
{
    layout->parts[layout->count++] = (struct iovec){(void *)base, size};
}

static void start_part_of_chunk(struct chunk_layout *layout, const void *header, size_t size)
{
    if (layout->chunks == MAX_CHUNKS)
        die("a message of more than %d chunks", MAX_CHUNKS);
    layout->chunk_starts[layout->chunks++] = layout->count;
    add_part(layout, header, size);
}

void chunk_lay_out(struct chunk_layout *layout, const struct message *message, uint32_t chunk_size)
{
    uint32_t length = (uint32_t)(message->payload[0].iov_len + message->payload[1].iov_len);
    layout->count = layout->chunks = 0;
    layout->header[0] = (uint8_t)(message->format << 6 | message->chunk_stream);
    layout->continuation = (uint8_t)(3 << 6 | message->chunk_stream);
    write_be(layout->header + 1, 3, message->time);
    write_be(layout->header + 4, 3, length);
    layout->header[7] = message->type;
    for (unsigned i = 0; i < 4; i++) /* the one little-endian number of RTMP */
        layout->header[8 + i] = (uint8_t)(message->message_stream >> 8 * i);
    start_part_of_chunk(layout, layout->header, 1 + HEADER_SIZES[message->format]);

    uint32_t room = chunk_size;
    for (size_t i = 0; i < 2; i++) {
        const uint8_t *data = message->payload[i].iov_base;
        size_t left = message->payload[i].iov_len;
        while (left) {
            if (!room) {
                start_part_of_chunk(layout, &layout->continuation, 1);
                room = chunk_size;
            }
            size_t size = left < room ? left : room;
            add_part(layout, data, size);
            data += size;
            left -= size;
            room -= (uint32_t)size;
        }
    }
}
