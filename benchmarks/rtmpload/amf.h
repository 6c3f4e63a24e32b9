/* AMF0, as much of it as the dialogues of RTMP clients and origins need. */
#ifndef RTMPLOAD_AMF_H
#define RTMPLOAD_AMF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A message being written. 1 KB holds the largest that is sent, onMetaData, three times over. */
struct amf {
    uint8_t data[1024];
    size_t size;
};

void amf_string(struct amf *out, const char *value);
void amf_number(struct amf *out, double value);
void amf_boolean(struct amf *out, bool value);
void amf_null(struct amf *out);
void amf_undefined(struct amf *out);
void amf_object_start(struct amf *out);
void amf_ecma_array_start(struct amf *out, uint32_t count);
void amf_key(struct amf *out, const char *key);
void amf_object_end(struct amf *out);

/* Starts a command: its name and its transaction id. */
void amf_command(struct amf *out, const char *name, double transaction);

/* Reads the name and the transaction id that a command starts with; false if it does not. */
bool amf_read_command(const uint8_t *data, size_t size, char *name, size_t name_size, double *transaction);

/* Finds the first property of that key whose value is a string; an empty string if there is none. */
void amf_find_string(const uint8_t *data, size_t size, const char *key, char *value, size_t value_size);

#endif
