#include "dialogue.h"

#include <stdio.h>
#include <string.h>

#include "amf.h"
#include "base.h"
#include "send.h"

/* Chunk streams as clients and SRS use them. */
enum { COMMAND_CHUNKS = 3, STATUS_CHUNKS = 5, STREAM_CHUNKS = 8 };

/* The transaction id of connect, with all clients. */
enum { CONNECT = 1 };

/* format 1 is what clients use for all but the first command on a chunk stream. */
static void send_command(struct session *session, unsigned format, unsigned chunk_stream, uint32_t message_stream,
                         const struct amf *command)
{
    send_message(session, &(struct message){.format = format, .chunk_stream = chunk_stream, .type = COMMAND,
                                            .message_stream = message_stream,
                                            .payload = {{(void *)command->data, command->size}}});
}

static void go_live(struct session *session, bool emits)
{
    struct load *load = session->load;
    session->live = true;
    session->emits = emits && !load->idle;
    if (session->role != ORIGIN)
        samples_add(&load->set_up, now_ns() - session->first_byte_at);
    if (!emits)
        return;
    struct amf metadata = {.size = 0};
    struct tag tag;
    if (session->role == PUBLISHER)
        amf_string(&metadata, "@setDataFrame");
    media_metadata(&metadata);
    send_metadata(session, &metadata);
    media_sequence_header(true, &tag);
    send_tag(session, &tag);
    media_sequence_header(false, &tag);
    send_tag(session, &tag);
    if (session->emits)
        media_start(&session->media, session->role == ORIGIN ? load->emitters++ : session->number, load->sessions);
}

void dialogue_start(struct session *session)
{
    struct amf command;
    char tc_url[64];
    snprintf(tc_url, sizeof tc_url, "rtmp://%s/live", session->load->authority);
    if (session->style->chunk_size_first)
        send_chunk_size(session);
    amf_command(&command, "connect", session->transaction = CONNECT);
    amf_object_start(&command);
    amf_key(&command, "app");
    amf_string(&command, "live");
    if (session->role == PUBLISHER) {
        amf_key(&command, "type");
        amf_string(&command, "nonprivate");
    }
    amf_key(&command, "flashVer");
    amf_string(&command, session->role == PUBLISHER ? "FMLE/3.0 (compatible; rtmpload)" : "LNX 9,0,124,2");
    amf_key(&command, "tcUrl");
    amf_string(&command, tc_url);
    amf_object_end(&command);
    send_command(session, 0, COMMAND_CHUNKS, NO_STREAM, &command);
    if (!session->style->chunk_size_first)
        send_chunk_size(session);
}

/* A command of the form (null, stream name); the name is left out where it is NULL. */
static void client_call(struct session *session, const char *method, const char *name)
{
    struct amf command;
    amf_command(&command, method, ++session->transaction);
    amf_null(&command);
    if (name)
        amf_string(&command, name);
    send_command(session, 1, COMMAND_CHUNKS, NO_STREAM, &command);
}

static void client_connected(struct session *session, const char *name)
{
    if (session->role == PUBLISHER) {
        client_call(session, "releaseStream", name);
        client_call(session, "FCPublish", name);
    } else {
        send_number(session, WINDOW_ACKNOWLEDGEMENT_SIZE, WINDOW_BYTES);
    }
    client_call(session, "createStream", NULL);
    session->create_stream = session->transaction;
}

static void client_stream_created(struct session *session, const char *name)
{
    struct amf command;
    bool publishes = session->role == PUBLISHER;
    amf_command(&command, publishes ? "publish" : "play", ++session->transaction);
    amf_null(&command);
    amf_string(&command, name);
    if (publishes)
        amf_string(&command, "live");
    else
        amf_number(&command, -2000); /* live if there is a live stream of that name */
    send_command(session, 0, STREAM_CHUNKS, THE_STREAM, &command);
    if (!publishes) {
        const uint8_t buffer_length[] = {0, 3, 0, 0, 0, THE_STREAM, 0, 0, 0x0b, 0xb8}; /* event 3: 3000 ms */
        send_control(session, USER_CONTROL, buffer_length, sizeof buffer_length);
    }
}

static void client_command(struct session *session, const char *method, double transaction,
                           const struct received_message *message)
{
    char name[64], code[64];
    snprintf(name, sizeof name, "%s-%u", session->load->name, session->number % session->load->streams);
    amf_find_string(message->head, message->head_size, "code", code, sizeof code);
    if (strcmp(method, "_result") == 0) {
        if ((int)transaction == CONNECT)
            client_connected(session, name);
        else if ((int)transaction == session->create_stream)
            client_stream_created(session, name);
    } else if (strcmp(method, "onBWDone") == 0) {
        client_call(session, "_checkbw", NULL);
    } else if (strcmp(method, "onStatus") == 0 && !session->live &&
               (strcmp(code, "NetStream.Publish.Start") == 0 || strcmp(code, "NetStream.Play.Start") == 0)) {
        go_live(session, session->role == PUBLISHER);
    } else if (strcmp(method, "_error") == 0 || strcmp(method, "onStatus") == 0) {
        char level[16];
        amf_find_string(message->head, message->head_size, "level", level, sizeof level);
        if (strcmp(level, "error") == 0)
            session_fail(session, code[0] ? code : "an error without a code");
    }
}

static void origin_result(struct session *session, double transaction, bool with_stream)
{
    struct amf command;
    amf_command(&command, "_result", transaction);
    amf_null(&command);
    if (with_stream)
        amf_number(&command, THE_STREAM);
    else
        amf_undefined(&command);
    send_command(session, 0, COMMAND_CHUNKS, NO_STREAM, &command);
}

/* A command that carries a status object; method is onStatus or onFCPublish. */
static void origin_status(struct session *session, const char *method, const char *code)
{
    struct amf command;
    amf_command(&command, method, 0);
    amf_null(&command);
    amf_object_start(&command);
    amf_key(&command, "level");
    amf_string(&command, "status");
    amf_key(&command, "code");
    amf_string(&command, code);
    amf_object_end(&command);
    send_command(session, 0, STATUS_CHUNKS, THE_STREAM, &command);
}

static void origin_connected(struct session *session, double transaction)
{
    struct amf command;
    send_number(session, WINDOW_ACKNOWLEDGEMENT_SIZE, WINDOW_BYTES);
    send_number(session, SET_PEER_BANDWIDTH, WINDOW_BYTES);
    send_chunk_size(session);
    amf_command(&command, "_result", transaction);
    amf_object_start(&command);
    amf_key(&command, "fmsVer");
    amf_string(&command, "FMS/3,5,3,888");
    amf_object_end(&command);
    amf_object_start(&command);
    amf_key(&command, "level");
    amf_string(&command, "status");
    amf_key(&command, "code");
    amf_string(&command, "NetConnection.Connect.Success");
    amf_object_end(&command);
    send_command(session, 0, COMMAND_CHUNKS, NO_STREAM, &command);
    amf_command(&command, "onBWDone", 0);
    amf_null(&command);
    send_command(session, 0, COMMAND_CHUNKS, NO_STREAM, &command);
}

static void origin_command(struct session *session, const char *method, double transaction)
{
    if (strcmp(method, "connect") == 0) {
        origin_connected(session, transaction);
    } else if (strcmp(method, "releaseStream") == 0 || strcmp(method, "FCPublish") == 0) {
        origin_result(session, transaction, false);
    } else if (strcmp(method, "createStream") == 0) {
        origin_result(session, transaction, true);
    } else if (strcmp(method, "publish") == 0) {
        origin_status(session, "onFCPublish", "NetStream.Publish.Start");
        origin_status(session, "onStatus", "NetStream.Publish.Start");
        go_live(session, false);
    } else if (strcmp(method, "play") == 0) {
        const uint8_t stream_begin[] = {0, 0, 0, 0, 0, THE_STREAM};
        send_control(session, USER_CONTROL, stream_begin, sizeof stream_begin);
        origin_status(session, "onStatus", "NetStream.Play.Reset");
        origin_status(session, "onStatus", "NetStream.Play.Start");
        go_live(session, true);
    }
}

void dialogue_command(struct session *session, const struct received_message *message)
{
    char method[32];
    double transaction;
    if (!amf_read_command(message->head, message->head_size, method, sizeof method, &transaction))
        return; /* none of those that matter here has such a name */
    if (session->role == ORIGIN)
        origin_command(session, method, transaction);
    else
        client_command(session, method, transaction, message);
}
