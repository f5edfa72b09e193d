"""States of a camera for Home Assistant and other programs, over an MQTT broker."""
