/* CFL-Link 1 for boards: sends images and events, receives commands and results.
 *
 * C99, no allocation, no input or output of its own: bytes leave through a function of yours and
 * come in one at a time. The bytes are described in PROTOCOL.md. Licence: Apache-2.0.
 */
#ifndef CFL_LINK_H
#define CFL_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CFL_VERSION 1
#define CFL_PAYLOAD_MAX 1024

/* Longest packet that is received; longer ones are passed over. Less saves memory. */
#ifndef CFL_RECEIVE_MAX
#define CFL_RECEIVE_MAX (16 + CFL_PAYLOAD_MAX + 4)
#endif

enum { CFL_HELLO, CFL_IMAGE, CFL_EVENT, CFL_LOG, CFL_CTRL, CFL_ACK, CFL_RESULT };  /* types */
enum { CFL_JPEG, CFL_GRAY8, CFL_RGB565LE, CFL_YUYV, CFL_INT8 };                    /* formats */
enum { CFL_DONE, CFL_REFUSED, CFL_BUSY };                                          /* statuses */
enum { CFL_FIRST_CHUNK = 1, CFL_LAST_CHUNK = 2, CFL_ACK_WANTED = 4 };              /* flags */

typedef void (*cfl_write)(void *context, const uint8_t *bytes, size_t count);

typedef struct {
    cfl_write write;
    void *context;      /* handed to write */
    uint16_t seq;       /* of the next packet */
    uint32_t crc;       /* so far */
    uint8_t used;       /* bytes in the block */
    bool full;          /* the last block had 254 bytes: no zero is implied after it */
    uint8_t block[255]; /* one COBS block, its code first */
} cfl_sender;

/* Makes a sender ready, and ends whatever start-up text is on the wire with a zero byte. */
void cfl_begin(cfl_sender *sender, cfl_write write, void *context);

/* json: UTF-8, see PROTOCOL.md for the keys. t_ms: the board's clock in milliseconds.
 * Each returns the seq of its (last) packet: what an ACK will name. Payloads over 1024 bytes are
 * cut off; such JSON will be refused. */
uint16_t cfl_send_hello(cfl_sender *sender, uint32_t t_ms, const char *json);
uint16_t cfl_send_event(cfl_sender *sender, uint32_t frame_id, uint32_t t_ms, const char *json,
                        bool ack_wanted);
uint16_t cfl_send_log(cfl_sender *sender, uint32_t t_ms, const char *text);
uint16_t cfl_send_ack(cfl_sender *sender, uint32_t t_ms, uint16_t seq, uint8_t status);
uint16_t cfl_send_image(cfl_sender *sender, uint32_t frame_id, uint32_t t_ms, uint8_t format,
                        uint16_t width, uint16_t height, const uint8_t *data, uint32_t total,
                        bool ack_wanted);

typedef struct {
    uint8_t type;
    uint8_t flags;
    uint16_t seq;
    uint32_t frame_id;
    uint32_t t_ms;
    const char *payload; /* ends with a zero that is not counted; until the next byte comes in */
    size_t size;
} cfl_packet;

typedef struct {
    size_t used;
    uint8_t left;       /* bytes to come in this COBS block */
    bool zero_due;      /* a zero stands between this block and the next */
    bool bad;           /* too long: skip to the next zero */
    uint8_t bytes[CFL_RECEIVE_MAX];
} cfl_receiver; /* all zero at the start: static, or = {0} */

/* Takes the next byte; returns true when it ends a good packet. */
bool cfl_receive(cfl_receiver *receiver, uint8_t byte, cfl_packet *packet);

/* Of an ACK: the seq that it names, and its status. */
uint16_t cfl_acked_seq(const cfl_packet *packet);
uint8_t cfl_acked_status(const cfl_packet *packet);

/* Values of the flat JSON of a CTRL or RESULT, which has no spaces. */
bool cfl_json_is(const char *json, const char *key, const char *text);
long cfl_json_integer(const char *json, const char *key, long otherwise);

#ifdef __cplusplus
}
#endif

#endif
