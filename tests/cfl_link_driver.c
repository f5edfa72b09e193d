/* Does what the lines of standard input say with cfl_link, bytes in hexadecimal:
 *   hello|log SEQ T TEXT        event SEQ FRAME T ACK TEXT      ack SEQ T ACKED STATUS
 *   image SEQ FRAME T FORMAT WIDTH HEIGHT ACK DATA               receive BYTES
 * and prints a line for each: the bytes that were sent, or the packets that were received. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cfl_link.h"

static char line[1 << 20];
static uint8_t data[1 << 19];

static void print_bytes(void *context, const uint8_t *bytes, size_t count) {
    (void)context;
    while (count--) printf("%02x", *bytes++);
}

static unsigned long next_number(void) { return strtoul(strtok(NULL, " \n"), NULL, 10); }

static size_t next_bytes(void) {
    const char *text = strtok(NULL, " \n");
    size_t count = 0;
    unsigned byte;
    for (; text != NULL && sscanf(text, "%2x", &byte) == 1; text += 2) data[count++] = (uint8_t)byte;
    data[count] = 0;
    return count;
}

static void print_packet(const cfl_packet *packet) {
    printf("%d,%d,%d,%" PRIu32 ",%" PRIu32 ",", packet->type, packet->flags, packet->seq,
           packet->frame_id, packet->t_ms);
    print_bytes(NULL, (const uint8_t *)packet->payload, packet->size);
    if (packet->type == CFL_ACK) {
        printf(",%d,%d", cfl_acked_seq(packet), cfl_acked_status(packet));
    } else {
        printf(",%d,%ld", cfl_json_is(packet->payload, "cmd", "stream"),
               cfl_json_integer(packet->payload, "fps", -7));
    }
    printf(" ");
}

int main(void) {
    static cfl_sender sender;
    cfl_begin(&sender, print_bytes, NULL);
    printf("\n");
    while (fgets(line, sizeof line, stdin) != NULL) {
        const char *what = strtok(line, " \n");
        if (strcmp(what, "receive") == 0) {
            cfl_receiver receiver = {0};
            size_t count = next_bytes(), i;
            cfl_packet packet;
            for (i = 0; i < count; i++) {
                if (cfl_receive(&receiver, data[i], &packet)) print_packet(&packet);
            }
        } else {
            sender.seq = (uint16_t)next_number();
            if (strcmp(what, "hello") == 0 || strcmp(what, "log") == 0) {
                uint32_t t_ms = (uint32_t)next_number();
                next_bytes();
                (what[0] == 'h' ? cfl_send_hello : cfl_send_log)(&sender, t_ms, (char *)data);
            } else if (strcmp(what, "event") == 0) {
                uint32_t frame_id = (uint32_t)next_number(), t_ms = (uint32_t)next_number();
                bool ack_wanted = next_number() != 0;
                next_bytes();
                cfl_send_event(&sender, frame_id, t_ms, (char *)data, ack_wanted);
            } else if (strcmp(what, "ack") == 0) {
                uint32_t t_ms = (uint32_t)next_number();
                uint16_t seq = (uint16_t)next_number();
                cfl_send_ack(&sender, t_ms, seq, (uint8_t)next_number());
            } else {
                uint32_t frame_id = (uint32_t)next_number(), t_ms = (uint32_t)next_number();
                uint8_t format = (uint8_t)next_number();
                uint16_t width = (uint16_t)next_number(), height = (uint16_t)next_number();
                bool ack_wanted = next_number() != 0;
                uint32_t total = (uint32_t)next_bytes();
                uint16_t last = cfl_send_image(&sender, frame_id, t_ms, format, width, height, data,
                                               total, ack_wanted);
                if ((uint16_t)(last + 1) != sender.seq) printf("wrong seq");
            }
        }
        printf("\n");
    }
    return 0;
}
