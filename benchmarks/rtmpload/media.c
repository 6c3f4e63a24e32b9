#include "media.h"

#include <string.h>

#include "base.h"

/* FLV file format 10.1, annex E.4.3 and E.4.2: first bytes of the tags' bodies. */
enum { AVC_KEY_FRAME = 0x17, AVC_INTER_FRAME = 0x27, AVC_SEQUENCE_HEADER = 0, AVC_NALU = 1 };
enum { AAC_44K_STEREO = 0xaf, AAC_SEQUENCE_HEADER = 0, AAC_RAW = 1 };
enum { NAL_INTER_SLICE = 0x41, NAL_KEY_SLICE = 0x65 };

/* What x264 writes for 160x90 baseline: an AVCDecoderConfigurationRecord with one SPS and one PPS. */
static const uint8_t AVC_CONFIGURATION[] = {
    0x01, 0x42, 0xc0, 0x0a, 0xff, 0xe1, 0x00, 0x18, 0x67, 0x42, 0xc0, 0x0a, 0xda, 0x0a, 0x37, 0xe4, 0xc0, 0x44, 0x00,
    0x00, 0x03, 0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0x78, 0x3c, 0x48, 0x9a, 0x80, 0x01, 0x00, 0x04, 0x68, 0xce, 0x3c,
    0x80,
};
/* AudioSpecificConfig: AAC LC, 44.1 kHz, two channels. */
static const uint8_t AAC_CONFIGURATION[] = {0x12, 0x10};

/* The stamp follows the NAL unit's first byte: a mark to know it by, then nanoseconds in hexadecimal digits, so that it
 * cannot look like a start code. */
static const char STAMP_MARK[] = {'r', 't', 'm', 'p', 'l', 'o', 'a', 'd'};
#define STAMP_OFFSET 10 /* 5 bytes of AVC video tag header, 4 of NAL unit length, 1 of NAL unit header */
#define STAMP_DIGITS 16
_Static_assert(STAMP_REACH == STAMP_OFFSET + sizeof STAMP_MARK + STAMP_DIGITS, "the header says how much to keep");

/* What all frames are filled with: a NAL unit may not hold 00 00 0x, so let it be anything but zeros. */
static uint8_t filler[KEY_FRAME_BYTES];

static void put(struct tag *tag, const void *data, size_t size)
{
    memcpy(tag->head + tag->head_size, data, size);
    tag->head_size += size;
}

void media_start(struct media *media, unsigned number, unsigned streams)
{
    if (!filler[0]) {
        uint32_t random = 1;
        for (size_t i = 0; i < sizeof filler; i++) {
            random = random * 1664525 + 1013904223;
            filler[i] = (uint8_t)(1 + (random >> 24) % 255);
        }
    }
    const uint64_t gop = GOP_FRAMES * VIDEO_INTERVAL_NS;
    uint64_t phase = number % GOP_FRAMES * VIDEO_INTERVAL_NS + VIDEO_INTERVAL_NS * number / streams;
    uint64_t now = now_ns();
    media->start = now / gop * gop + phase;
    if (media->start < now)
        media->start += gop;
    media->video_frames = media->audio_frames = 0;
}

static uint64_t video_due(const struct media *media)
{
    return media->start + media->video_frames * VIDEO_INTERVAL_NS;
}

static uint64_t audio_due(const struct media *media)
{
    return media->start + media->audio_frames * AUDIO_INTERVAL_NS;
}

uint64_t media_due(const struct media *media)
{
    uint64_t video = video_due(media), audio = audio_due(media);
    return video <= audio ? video : audio;
}

static void next_video(struct media *media, uint64_t stamp, struct tag *tag)
{
    uint32_t frame = media->video_frames++;
    bool key = frame % GOP_FRAMES == 0;
    uint32_t size = key ? KEY_FRAME_BYTES : INTER_FRAME_MIN + (frame * 2654435761U >> 8) % INTER_FRAME_SPAN;
    const uint8_t start[] = {key ? AVC_KEY_FRAME : AVC_INTER_FRAME, AVC_NALU, 0, 0, 0};
    uint8_t nalu_length[4], digits[STAMP_DIGITS];
    write_be(nalu_length, 4, size);
    for (size_t i = STAMP_DIGITS; i-- > 0; stamp >>= 4)
        digits[i] = (uint8_t)"0123456789abcdef"[stamp & 15];
    const uint8_t nal_header = key ? NAL_KEY_SLICE : NAL_INTER_SLICE;
    put(tag, start, sizeof start);
    put(tag, nalu_length, sizeof nalu_length);
    put(tag, &nal_header, 1);
    put(tag, STAMP_MARK, sizeof STAMP_MARK);
    put(tag, digits, sizeof digits);
    tag->body_size = size - 1 - sizeof STAMP_MARK - sizeof digits;
}

static void next_audio(struct media *media, struct tag *tag)
{
    static const uint8_t start[] = {AAC_44K_STEREO, AAC_RAW};
    media->audio_frames++;
    put(tag, start, sizeof start);
    tag->body_size = AUDIO_FRAME_BYTES - sizeof start;
}

void media_next(struct media *media, uint64_t stamp, struct tag *tag)
{
    tag->time = (uint32_t)((media_due(media) - media->start) / NS_PER_MS);
    tag->video = video_due(media) <= audio_due(media);
    tag->head_size = 0;
    tag->body = filler;
    if (tag->video)
        next_video(media, stamp, tag);
    else
        next_audio(media, tag);
}

void media_sequence_header(bool video, struct tag *tag)
{
    static const uint8_t avc[] = {AVC_KEY_FRAME, AVC_SEQUENCE_HEADER, 0, 0, 0};
    static const uint8_t aac[] = {AAC_44K_STEREO, AAC_SEQUENCE_HEADER};
    *tag = (struct tag){.video = video};
    if (video) {
        put(tag, avc, sizeof avc);
        put(tag, AVC_CONFIGURATION, sizeof AVC_CONFIGURATION);
    } else {
        put(tag, aac, sizeof aac);
        put(tag, AAC_CONFIGURATION, sizeof AAC_CONFIGURATION);
    }
}

void media_metadata(struct amf *out)
{
    static const struct { const char *key; double value; } fields[] = {
        {"width", 160}, {"height", 90}, {"videodatarate", 2544}, {"framerate", 25}, {"videocodecid", 7},
        {"audiodatarate", 128}, {"audiosamplerate", 44100}, {"audiosamplesize", 16}, {"audiocodecid", 10},
    };
    amf_string(out, "onMetaData");
    amf_ecma_array_start(out, sizeof fields / sizeof *fields);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        amf_key(out, fields[i].key);
        amf_number(out, fields[i].value);
    }
    amf_object_end(out);
}

uint64_t media_stamp(const uint8_t *data, size_t size)
{
    if (size < STAMP_REACH || data[1] != AVC_NALU)
        return 0;
    data += STAMP_OFFSET;
    if (memcmp(data, STAMP_MARK, sizeof STAMP_MARK) != 0)
        return 0;
    data += sizeof STAMP_MARK;
    uint64_t stamp = 0;
    for (size_t i = 0; i < STAMP_DIGITS; i++)
        stamp = stamp << 4 | (uint64_t)(data[i] <= '9' ? data[i] - '0' : data[i] - 'a' + 10);
    return stamp;
}
