#include "amf.h"

#include <string.h>

#include "base.h"

enum marker { NUMBER = 0, BOOLEAN = 1, STRING = 2, OBJECT = 3, NULL_VALUE = 5, UNDEFINED = 6, ECMA_ARRAY = 8, END = 9 };

static void put(struct amf *out, const void *data, size_t size)
{
    if (size > sizeof out->data - out->size)
        die("a command of more than %zu bytes", sizeof out->data);
    memcpy(out->data + out->size, data, size);
    out->size += size;
}

static void put_byte(struct amf *out, uint8_t value)
{
    put(out, &value, 1);
}

void amf_key(struct amf *out, const char *key)
{
    uint8_t length[2];
    write_be(length, 2, (uint32_t)strlen(key));
    put(out, length, 2);
    put(out, key, strlen(key));
}

void amf_string(struct amf *out, const char *value)
{
    put_byte(out, STRING);
    amf_key(out, value);
}

void amf_number(struct amf *out, double value)
{
    uint64_t bits;
    uint8_t bytes[8];
    memcpy(&bits, &value, sizeof bits);
    write_be(bytes, 4, (uint32_t)(bits >> 32));
    write_be(bytes + 4, 4, (uint32_t)bits);
    put_byte(out, NUMBER);
    put(out, bytes, sizeof bytes);
}

void amf_boolean(struct amf *out, bool value)
{
    put_byte(out, BOOLEAN);
    put_byte(out, value);
}

void amf_null(struct amf *out)
{
    put_byte(out, NULL_VALUE);
}

void amf_undefined(struct amf *out)
{
    put_byte(out, UNDEFINED);
}

void amf_object_start(struct amf *out)
{
    put_byte(out, OBJECT);
}

void amf_ecma_array_start(struct amf *out, uint32_t count)
{
    uint8_t bytes[4];
    write_be(bytes, 4, count);
    put_byte(out, ECMA_ARRAY);
    put(out, bytes, sizeof bytes);
}

void amf_object_end(struct amf *out)
{
    put(out, "\0\0", 2); /* the empty key */
    put_byte(out, END);
}

void amf_command(struct amf *out, const char *name, double transaction)
{
    out->size = 0;
    amf_string(out, name);
    amf_number(out, transaction);
}

/* Copies the string value at data, if one is there, and returns its encoded size; 0 if not. */
static size_t read_string(const uint8_t *data, size_t size, char *value, size_t value_size)
{
    if (size < 3 || data[0] != STRING)
        return 0;
    size_t length = read_be(data + 1, 2);
    if (length > size - 3 || length >= value_size)
        return 0;
    memcpy(value, data + 3, length);
    value[length] = '\0';
    return 3 + length;
}

bool amf_read_command(const uint8_t *data, size_t size, char *name, size_t name_size, double *transaction)
{
    size_t used = read_string(data, size, name, name_size);
    if (!used || size - used < 9 || data[used] != NUMBER)
        return false;
    uint64_t bits = (uint64_t)read_be(data + used + 1, 4) << 32 | read_be(data + used + 5, 4);
    memcpy(transaction, &bits, sizeof bits);
    return true;
}

void amf_find_string(const uint8_t *data, size_t size, const char *key, char *value, size_t value_size)
{
    struct amf wanted = {.size = 0};
    amf_key(&wanted, key);
    value[0] = '\0';
    const uint8_t *found = memmem(data, size, wanted.data, wanted.size);
    if (found)
        read_string(found + wanted.size, size - (size_t)(found + wanted.size - data), value, value_size);
}
