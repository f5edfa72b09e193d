// Runs a sketch for six seconds of its own clock: what the host sends is standard input, what the
// board sends is standard output. The button is held from second 4 on.
#include "Arduino.h"

#include <stdio.h>

#include "esp_camera.h"

void setup();
void loop();

HardwareSerial Serial;
static unsigned long now_ms = 0;
static uint8_t jpeg[3000];
static size_t width = 640, height = 480;

void HardwareSerial::begin(unsigned long) {}
void HardwareSerial::setDebugOutput(bool) {}
size_t HardwareSerial::write(const uint8_t *bytes, size_t count) {
  return fwrite(bytes, 1, count, stdout);
}

static int peeked = -1;
int HardwareSerial::available() {
  if (now_ms < 2500) return 0;  // the host comes later than the first HELLO
  if (peeked < 0) peeked = getchar();
  return peeked >= 0;
}
int HardwareSerial::read() {
  int byte = available() ? peeked : -1;
  peeked = -1;
  return byte;
}

unsigned long millis() { return now_ms; }
void delay(uint32_t ms) { now_ms += ms; }
void pinMode(uint8_t, uint8_t) {}
int digitalRead(uint8_t) { return now_ms >= 4000 ? LOW : HIGH; }

static int set_framesize(sensor_t *, framesize_t size) {
  width = 160u << size;
  height = 120u << size;
  return 0;
}
static int set_quality(sensor_t *, int) { return 0; }
static sensor_t sensor = {set_framesize, set_quality};

extern "C" {
sensor_t *esp_camera_sensor_get() { return &sensor; }
esp_err_t esp_camera_init(const camera_config_t *) { return ESP_OK; }
void esp_camera_fb_return(camera_fb_t *) {}
camera_fb_t *esp_camera_fb_get() {
  static camera_fb_t picture;
  for (size_t place = 0; place < sizeof jpeg; place++) jpeg[place] = (uint8_t)(place % 251);
  picture = {jpeg, sizeof jpeg, width, height, PIXFORMAT_JPEG};
  return &picture;
}
}

int main() {
  setup();
  while (now_ms < 6000) {
    loop();
    now_ms++;
  }
  return 0;
}
