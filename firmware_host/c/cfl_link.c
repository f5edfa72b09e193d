#include "cfl_link.h"

#include <stdlib.h>
#include <string.h>

/* CRC-32 of zlib, four bits at a time: entry i is i shifted right by 4 with polynomial EDB88320. */
static const uint32_t CRC_TABLE[16] = {
    0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
    0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};

static uint32_t crc_byte(uint32_t crc, uint8_t byte) {
    crc ^= byte;
    crc = (crc >> 4) ^ CRC_TABLE[crc & 15];
    return (crc >> 4) ^ CRC_TABLE[crc & 15];
}

static void write_block(cfl_sender *sender) {
    sender->block[0] = (uint8_t)(sender->used + 1);
    sender->write(sender->context, sender->block, (size_t)sender->used + 1);
    sender->full = sender->used == 254;
    sender->used = 0;
}

static void put(cfl_sender *sender, uint8_t byte) {
    sender->crc = crc_byte(sender->crc, byte);
    if (byte == 0) {
        write_block(sender);
        return;
    }
    sender->block[++sender->used] = byte;
    if (sender->used == 254) write_block(sender);
}

static void put_number(cfl_sender *sender, uint32_t number, int bytes) {
    for (; bytes > 0; bytes--, number >>= 8) put(sender, (uint8_t)number);
}

static void put_bytes(cfl_sender *sender, const void *bytes, size_t count) {
    const uint8_t *byte = (const uint8_t *)bytes;
    while (count--) put(sender, *byte++);
}

static void begin_packet(cfl_sender *sender, uint8_t type, uint8_t flags, uint32_t frame_id,
                         uint32_t t_ms, uint32_t offset) {
    sender->crc = 0xffffffff;
    sender->used = 0;
    sender->full = false;
    put_number(sender, (uint32_t)(CFL_VERSION << 4 | type), 1);
    put_number(sender, flags, 1);
    put_number(sender, sender->seq, 2);
    put_number(sender, frame_id, 4);
    put_number(sender, t_ms, 4);
    put_number(sender, offset, 4);
}

static uint16_t end_packet(cfl_sender *sender) {
    static const uint8_t zero = 0;
    put_number(sender, ~sender->crc, 4);
    if (sender->used > 0 || !sender->full) write_block(sender);
    sender->write(sender->context, &zero, 1);
    return sender->seq++;
}

static uint16_t send_text(cfl_sender *sender, uint8_t type, uint8_t flags, uint32_t frame_id,
                          uint32_t t_ms, const char *text) {
    size_t size = strlen(text);
    begin_packet(sender, type, flags, frame_id, t_ms, 0);
    put_bytes(sender, text, size < CFL_PAYLOAD_MAX ? size : CFL_PAYLOAD_MAX);
    return end_packet(sender);
}

void cfl_begin(cfl_sender *sender, cfl_write write, void *context) {
    static const uint8_t zero = 0;
    memset(sender, 0, sizeof *sender);
    sender->write = write;
    sender->context = context;
    write(context, &zero, 1);
}

uint16_t cfl_send_hello(cfl_sender *sender, uint32_t t_ms, const char *json) {
    return send_text(sender, CFL_HELLO, 0, 0, t_ms, json);
}

uint16_t cfl_send_event(cfl_sender *sender, uint32_t frame_id, uint32_t t_ms, const char *json,
                        bool ack_wanted) {
    return send_text(sender, CFL_EVENT, ack_wanted ? CFL_ACK_WANTED : 0, frame_id, t_ms, json);
}

uint16_t cfl_send_log(cfl_sender *sender, uint32_t t_ms, const char *text) {
    return send_text(sender, CFL_LOG, 0, 0, t_ms, text);
}

uint16_t cfl_send_ack(cfl_sender *sender, uint32_t t_ms, uint16_t seq, uint8_t status) {
    begin_packet(sender, CFL_ACK, 0, 0, t_ms, 0);
    put_number(sender, seq, 2);
    put_number(sender, status, 1);
    return end_packet(sender);
}

uint16_t cfl_send_image(cfl_sender *sender, uint32_t frame_id, uint32_t t_ms, uint8_t format,
                        uint16_t width, uint16_t height, const uint8_t *data, uint32_t total,
                        bool ack_wanted) {
    uint32_t offset = 0;
    uint16_t seq = sender->seq;
    while (offset < total) {
        uint32_t room = offset == 0 ? CFL_PAYLOAD_MAX - 10 : CFL_PAYLOAD_MAX;
        uint32_t count = total - offset < room ? total - offset : room;
        bool last = offset + count == total;
        uint8_t flags = (uint8_t)((offset == 0 ? CFL_FIRST_CHUNK : 0) | (last ? CFL_LAST_CHUNK : 0) |
                                  (last && ack_wanted ? CFL_ACK_WANTED : 0));
        begin_packet(sender, CFL_IMAGE, flags, frame_id, t_ms, offset);
        if (offset == 0) {
            put_number(sender, format, 1);
            put_number(sender, 0, 1);
            put_number(sender, width, 2);
            put_number(sender, height, 2);
            put_number(sender, total, 4);
        }
        put_bytes(sender, data + offset, count);
        seq = end_packet(sender);
        offset += count;
    }
    return seq;
}

static uint32_t number_at(const uint8_t *bytes, int count) {
    uint32_t number = 0;
    while (count--) number = number << 8 | bytes[count];
    return number;
}

static bool read_packet(cfl_receiver *receiver, cfl_packet *packet) {
    const uint8_t *bytes = receiver->bytes;
    size_t end, i;
    uint32_t crc = 0xffffffff;
    if (receiver->bad || receiver->left > 0 || receiver->used < 20) return false;
    end = receiver->used - 4;
    for (i = 0; i < end; i++) crc = crc_byte(crc, bytes[i]);
    if (~crc != number_at(bytes + end, 4) || bytes[0] >> 4 != CFL_VERSION) return false;
    packet->type = bytes[0] & 15;
    packet->flags = bytes[1];
    packet->seq = (uint16_t)number_at(bytes + 2, 2);
    packet->frame_id = number_at(bytes + 4, 4);
    packet->t_ms = number_at(bytes + 8, 4);
    packet->payload = (const char *)bytes + 16;
    packet->size = end - 16;
    receiver->bytes[end] = 0; /* where the checksum was: the payload is a C string */
    return true;
}

static void keep(cfl_receiver *receiver, uint8_t byte) {
    if (receiver->used < CFL_RECEIVE_MAX) {
        receiver->bytes[receiver->used++] = byte;
    } else {
        receiver->bad = true;
    }
}

bool cfl_receive(cfl_receiver *receiver, uint8_t byte, cfl_packet *packet) {
    if (byte == 0) {
        bool good = read_packet(receiver, packet);
        receiver->used = 0;
        receiver->left = 0;
        receiver->zero_due = receiver->bad = false;
        return good;
    }
    if (receiver->left > 0) {
        receiver->left--;
        keep(receiver, byte);
    } else {
        if (receiver->zero_due) keep(receiver, 0);
        receiver->left = (uint8_t)(byte - 1);
        receiver->zero_due = byte != 255;
    }
    return false;
}

uint16_t cfl_acked_seq(const cfl_packet *packet) {
    return packet->size < 3 ? 0 : (uint16_t)number_at((const uint8_t *)packet->payload, 2);
}

uint8_t cfl_acked_status(const cfl_packet *packet) {
    return packet->size < 3 ? CFL_REFUSED : (uint8_t)packet->payload[2];
}

static const char *value_of(const char *json, const char *key) {
    size_t size = strlen(key);
    for (; (json = strchr(json, '"')) != NULL; json++) {
        if (strncmp(json + 1, key, size) == 0 && strncmp(json + 1 + size, "\":", 2) == 0) {
            return json + size + 3;
        }
    }
    return NULL;
}

bool cfl_json_is(const char *json, const char *key, const char *text) {
    const char *value = value_of(json, key);
    size_t size = strlen(text);
    return value != NULL && value[0] == '"' && strncmp(value + 1, text, size) == 0 &&
           value[size + 1] == '"';
}

long cfl_json_integer(const char *json, const char *key, long otherwise) {
    const char *value = value_of(json, key);
    char *end;
    long number = value == NULL ? 0 : strtol(value, &end, 10);
    return value == NULL || end == value ? otherwise : number;
}
