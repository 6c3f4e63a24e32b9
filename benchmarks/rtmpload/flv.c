#include "flv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "amf.h"
#include "measure.h"
#include "send.h"
#include "session.h"

/* FLV file format, annex E.2 and E.3: the file header, and the PreviousTagSize0 behind it. */
#define FILE_HEADER 9
#define TAG_SIZE 4
/* One batch of frames: 9 of video, of which one is a key frame, and 17 of audio, with room to spare. */
#define CHUNK_BYTES 262144

static const uint8_t FLV_FILE_HEADER[FILE_HEADER] = {'F', 'L', 'V', 1, 5, 0, 0, 0, FILE_HEADER};

static size_t least(size_t left, size_t right)
{
    return left < right ? left : right;
}

/* ---- What the origin writes ---- */

struct output {
    size_t size;
    uint8_t data[CHUNK_BYTES];
};

static void put(struct output *output, const void *data, size_t size)
{
    if (size > sizeof output->data - output->size)
        die("a batch of frames is longer than %zu bytes", sizeof output->data);
    memcpy(output->data + output->size, data, size);
    output->size += size;
}

static void put_tag(struct output *output, enum message_type type, uint32_t time, const void *head, size_t head_size,
                    const void *body, size_t body_size)
{
    uint8_t header[FLV_TAG_HEADER] = {(uint8_t)type}, size[TAG_SIZE];
    write_be(header + 1, 3, (uint32_t)(head_size + body_size));
    write_be(header + 4, 3, time);
    header[7] = (uint8_t)(time >> 24);
    write_be(size, sizeof size, (uint32_t)(sizeof header + head_size + body_size));
    put(output, header, sizeof header);
    put(output, head, head_size);
    put(output, body, body_size);
    put(output, size, sizeof size);
}

static void put_media(struct output *output, const struct tag *tag)
{
    put_tag(output, tag->video ? VIDEO : AUDIO, tag->time, tag->head, tag->head_size, tag->body, tag->body_size);
}

static void put_chunk(struct output *output, const void *data, size_t size)
{
    char line[16];
    put(output, line, (size_t)snprintf(line, sizeof line, "%zx\r\n", size));
    put(output, data, size);
    put(output, "\r\n", 2);
}

static void put_text(struct output *output, const char *text)
{
    put(output, text, strlen(text));
}

/* Both are too large for the stack, and used up before the next call. */
static struct output chunk, sent;

static void send_stream_head(struct session *session)
{
    static const uint8_t no_tag[TAG_SIZE];
    struct amf metadata = {.size = 0};
    struct tag tag;
    chunk.size = sent.size = 0;
    media_metadata(&metadata);
    put_tag(&chunk, DATA, 0, metadata.data, metadata.size, NULL, 0);
    media_sequence_header(true, &tag);
    put_media(&chunk, &tag);
    media_sequence_header(false, &tag);
    put_media(&chunk, &tag);
    put_text(&sent, "HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Type: video/x-flv\r\nServer: rtmpload\r\n"
                    "Transfer-Encoding: chunked\r\n\r\n");
    put_chunk(&sent, FLV_FILE_HEADER, sizeof FLV_FILE_HEADER);
    put_chunk(&sent, no_tag, sizeof no_tag);
    put_chunk(&sent, chunk.data, chunk.size);
    send_bytes(session, sent.data, sent.size);
}

void flv_send_batch(struct session *session, uint64_t stamp)
{
    chunk.size = sent.size = 0;
    while (media_due(&session->media) < session->batch_due) {
        struct tag tag;
        media_next(&session->media, stamp, &tag);
        put_media(&chunk, &tag);
    }
    session->batch_due += FLV_BATCH_NS;
    put_chunk(&sent, chunk.data, chunk.size);
    send_bytes(session, sent.data, sent.size);
}

/* A proxy's health check may ask for something else, and shall know that it has met a server. */
static void answer_request(struct session *session, const char *head)
{
    static const char not_found[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    const char *path = strchr(head, ' ');
    size_t path_size = path ? strcspn(++path, " ?") : 0;
    if (path_size < 4 || strncmp(path + path_size - 4, ".flv", 4) != 0) {
        send_bytes(session, not_found, sizeof not_found - 1);
        session_fail(session, "a request for no stream");
        return;
    }
    session->live = session->emits = true;
    send_stream_head(session);
    media_start(&session->media, session->load->emitters++, session->load->sessions);
    session->batch_due = session->media.start + FLV_BATCH_NS;
}

/* ---- What the player reads ---- */

void flv_request(struct session *session)
{
    const struct load *load = session->load;
    char request[512];
    int size = snprintf(request, sizeof request,
                        "GET /live/%s-%u.flv HTTP/1.1\r\nHost: %s\r\nUser-Agent: rtmpload\r\nAccept: */*\r\n\r\n",
                        load->name, session->number % load->streams, load->authority);
    if ((size_t)size >= sizeof request)
        die("--name %s: too long", load->name);
    send_bytes(session, request, (size_t)size);
}

static size_t head_wanted(const struct flv_reader *reader)
{
    if (!reader->in_tags)
        return FILE_HEADER + TAG_SIZE;
    if (reader->head_size < FLV_TAG_HEADER)
        return FLV_TAG_HEADER;
    return FLV_TAG_HEADER + least(read_be(reader->head + 1, 3), STAMP_REACH);
}

static void on_flv_head(struct session *session)
{
    struct flv_reader *reader = &session->flv;
    if (!reader->in_tags) {
        if (memcmp(reader->head, FLV_FILE_HEADER, 3) != 0) {
            session_fail(session, "a body that is not FLV");
            return;
        }
        reader->in_tags = session->live = true;
        samples_add(&session->load->set_up, now_ns() - session->first_byte_at);
    } else {
        uint64_t stamp = 0;
        if (reader->head[0] == VIDEO)
            stamp = media_stamp(reader->head + FLV_TAG_HEADER, reader->head_size - FLV_TAG_HEADER);
        if (stamp)
            samples_add(&session->load->counters.latency, now_ns() - stamp);
        reader->skip = FLV_TAG_HEADER + read_be(reader->head + 1, 3) + TAG_SIZE - reader->head_size;
    }
    reader->head_size = 0;
}

static void take_flv(struct session *session, const uint8_t *data, size_t size)
{
    struct flv_reader *reader = &session->flv;
    while (size && !session->problem[0]) {
        size_t used;
        if (reader->skip) {
            used = least(reader->skip, size);
            reader->skip -= used;
        } else {
            used = least(head_wanted(reader) - reader->head_size, size);
            memcpy(reader->head + reader->head_size, data, used);
            reader->head_size += used;
            if (reader->head_size == head_wanted(reader))
                on_flv_head(session);
        }
        data += used;
        size -= used;
    }
}

/* Gathers text up to the ending, which is taken but left out of the text. Returns how much was taken; *complete tells
 * whether the ending was there. */
static size_t take_line(struct session *session, const uint8_t *data, size_t size, const char *ending, bool *complete)
{
    struct flv_reader *reader = &session->flv;
    size_t used = 0, length = strlen(ending);
    *complete = false;
    while (used < size && !*complete) {
        if (reader->line_size == HTTP_HEAD_MAX) {
            session_fail(session, "an HTTP head that is too long");
            return size;
        }
        reader->line[reader->line_size++] = (char)data[used++];
        const char *end = reader->line + reader->line_size;
        *complete = reader->line_size >= length && memcmp(end - length, ending, length) == 0;
    }
    if (*complete) {
        reader->line[reader->line_size - length] = '\0';
        reader->line_size = 0;
    }
    return used;
}

static void on_response(struct session *session, const char *head)
{
    if (strncmp(head, "HTTP/1.1 200", 12) != 0) {
        char problem[64];
        snprintf(problem, sizeof problem, "answered with %.*s", (int)strcspn(head, "\r"), head);
        session_fail(session, problem);
    }
    session->flv.in_body = true;
    session->flv.chunked = strcasestr(head, "\r\nTransfer-Encoding: chunked") != NULL;
}

static size_t take_chunked(struct session *session, const uint8_t *data, size_t size)
{
    struct flv_reader *reader = &session->flv;
    bool complete;
    size_t used;
    if (reader->chunk_left) {
        used = least(reader->chunk_left, size);
        reader->chunk_left -= used;
        take_flv(session, data, used);
        return used;
    }
    used = take_line(session, data, size, "\r\n", &complete);
    if (complete && reader->line[0]) { /* else the end of the chunk before */
        reader->chunk_left = strtoul(reader->line, NULL, 16);
        if (!reader->chunk_left)
            session_fail(session, "the peer ended the stream");
    }
    return used;
}

void flv_receive(struct session *session, const uint8_t *data, size_t size)
{
    struct flv_reader *reader = &session->flv;
    while (size && !session->problem[0]) {
        bool complete;
        size_t used = size;
        if (!reader->in_body) {
            used = take_line(session, data, size, "\r\n\r\n", &complete);
            if (complete && session->role == ORIGIN) {
                reader->in_body = true; /* whatever follows the request is ignored */
                answer_request(session, reader->line);
            } else if (complete) {
                on_response(session, reader->line);
            }
        } else if (session->role == ORIGIN) {
            break;
        } else if (reader->chunked) {
            used = take_chunked(session, data, size);
        } else {
            take_flv(session, data, size);
        }
        data += used;
        size -= used;
    }
}
