// ESP32-CAM (AI Thinker) as a camera of cfl-edge: JPEG images over its serial port, CFL-Link 1.
//
// Copy cfl_link.h and cfl_link.c next to this file. Arduino IDE: board "AI Thinker ESP32-CAM",
// core esp32 2.0 or newer. Between GPIO 13 and ground a button teaches LABEL while it is held.

#include "cfl_link.h"
#include "esp_camera.h"

static const char *const HELLO =
    "{\"board\":\"esp32cam\",\"fw\":\"1.0\",\"formats\":[\"jpeg\"],\"rx\":true}";
static const char *const PRESS = "{\"event\":\"press\",\"label\":\"mug\"}";
static const char *const RELEASE = "{\"event\":\"release\",\"label\":\"mug\"}";

static const int BUTTON = 13;
static const uint32_t BAUD = 921600;
static const uint32_t HELLO_PERIOD_MS = 2000;
static const uint32_t ACK_TIMEOUT_MS = 500;
static const int MAX_TRIES = 3;

static cfl_sender sender;
static cfl_receiver receiver;

static bool heard = false;      // a host has spoken
static bool streaming = false;
static bool snap = false;
static uint32_t period_ms = 200;
static uint32_t image_ms = 0; // when the last image was taken
static uint32_t hello_ms = 0;
static uint32_t frame_id = 0;
static bool held = false;       // the button, as the host knows it

static void write_serial(void *, const uint8_t *bytes, size_t count) { Serial.write(bytes, count); }

static bool start_camera() {
  camera_config_t config = {};
  config.ledc_channel = LEDC_CHANNEL_0;
  config.ledc_timer = LEDC_TIMER_0;
  config.pin_d0 = 5;
  config.pin_d1 = 18;
  config.pin_d2 = 19;
  config.pin_d3 = 21;
  config.pin_d4 = 36;
  config.pin_d5 = 39;
  config.pin_d6 = 34;
  config.pin_d7 = 35;
  config.pin_xclk = 0;
  config.pin_pclk = 22;
  config.pin_vsync = 25;
  config.pin_href = 23;
  config.pin_sccb_sda = 26;
  config.pin_sccb_scl = 27;
  config.pin_pwdn = 32;
  config.pin_reset = -1;
  config.xclk_freq_hz = 20000000;
  config.pixel_format = PIXFORMAT_JPEG;
  config.frame_size = FRAMESIZE_VGA;  // the largest that will be asked for: sizes the buffers
  config.jpeg_quality = 12;
  config.fb_count = 2;
  config.fb_location = CAMERA_FB_IN_PSRAM;
  config.grab_mode = CAMERA_GRAB_LATEST;
  if (esp_camera_init(&config) != ESP_OK) return false;
  sensor_t *sensor = esp_camera_sensor_get();
  sensor->set_framesize(sensor, FRAMESIZE_QVGA);
  return true;
}

static uint8_t obey(const char *json) {
  sensor_t *sensor = esp_camera_sensor_get();
  if (cfl_json_is(json, "cmd", "stop")) {
    streaming = false;
    return CFL_DONE;
  }
  bool stream = cfl_json_is(json, "cmd", "stream");
  if (!stream && !cfl_json_is(json, "cmd", "snap")) return CFL_REFUSED;
  if (cfl_json_is(json, "size", "qqvga")) sensor->set_framesize(sensor, FRAMESIZE_QQVGA);
  if (cfl_json_is(json, "size", "qvga")) sensor->set_framesize(sensor, FRAMESIZE_QVGA);
  if (cfl_json_is(json, "size", "vga")) sensor->set_framesize(sensor, FRAMESIZE_VGA);
  long quality = cfl_json_integer(json, "q", -1);
  if (quality >= 4 && quality <= 63) sensor->set_quality(sensor, (int)quality);
  long fps = cfl_json_integer(json, "fps", 0);
  if (fps >= 1 && fps <= 60) period_ms = 1000 / (uint32_t)fps;
  (stream ? streaming : snap) = true;
  return CFL_DONE;
}

// Reads what has come in; returns true if it acknowledged one of the packets first to last.
static bool read_host(uint16_t first, uint16_t last) {
  bool acked = false;
  cfl_packet packet;
  while (Serial.available() > 0) {
    if (!cfl_receive(&receiver, (uint8_t)Serial.read(), &packet)) continue;
    heard = true;
    if (packet.type == CFL_CTRL) {
      uint8_t status = obey(packet.payload);
      if (packet.flags & CFL_ACK_WANTED) cfl_send_ack(&sender, millis(), packet.seq, status);
    } else if (packet.type == CFL_ACK) {
      acked |= (uint16_t)(cfl_acked_seq(&packet) - first) <= (uint16_t)(last - first);
    }
  }
  return acked;
}

static void tell(const char *event) {
  uint16_t first = sender.seq;
  for (int tries = 0; tries < MAX_TRIES; tries++) {
    uint16_t last = cfl_send_event(&sender, frame_id, millis(), event, heard);
    if (!heard) return;
    uint32_t start = millis();
    while (millis() - start < ACK_TIMEOUT_MS) {
      if (read_host(first, last)) return;
      delay(1);
    }
  }
}

static void send_image() {
  camera_fb_t *image = esp_camera_fb_get();
  if (image == nullptr) {
    cfl_send_log(&sender, millis(), "no image from the camera");
    return;
  }
  cfl_send_image(&sender, ++frame_id, image_ms, CFL_JPEG, (uint16_t)image->width,
                 (uint16_t)image->height, image->buf, (uint32_t)image->len, false);
  esp_camera_fb_return(image);
  snap = false;
}

void setup() {
  pinMode(BUTTON, INPUT_PULLUP);
  Serial.begin(BAUD);
  Serial.setDebugOutput(false);  // no text of drivers between the packets
  cfl_begin(&sender, write_serial, nullptr);
  cfl_send_hello(&sender, millis(), HELLO);
  hello_ms = millis();
  if (!start_camera()) cfl_send_log(&sender, millis(), "the camera does not start");
}

void loop() {
  read_host(0, 0);
  if (!heard && millis() - hello_ms >= HELLO_PERIOD_MS) {
    hello_ms = millis();
    cfl_send_hello(&sender, hello_ms, HELLO);
  }
  bool pressed = digitalRead(BUTTON) == LOW;
  if (pressed != held) {
    held = pressed;
    tell(pressed ? PRESS : RELEASE);
  }
  if (snap || (streaming && millis() - image_ms >= period_ms)) {
    image_ms = millis();
    send_image();
  }
}
