// The part of Arduino's and the ESP32's interface that the sketches use, over standard input and
// output. Written from their documentation; the compiler of the board is not asked.
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { LOW, HIGH, INPUT_PULLUP = 5 };

struct HardwareSerial {
  void begin(unsigned long baud);
  void setDebugOutput(bool enable);
  int available();
  int read();
  size_t write(const uint8_t *bytes, size_t count);
};

extern HardwareSerial Serial;

unsigned long millis();
void delay(uint32_t ms);
void pinMode(uint8_t pin, uint8_t mode);
int digitalRead(uint8_t pin);
