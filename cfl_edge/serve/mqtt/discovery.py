"""What Home Assistant is told about a camera: one device, and its entities.

Device discovery, since Home Assistant 2024.11: https://www.home-assistant.io/integrations/mqtt/
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from cfl_edge.defaults import UNKNOWN, VERSION
from cfl_edge.serve.mqtt.address import MqttAddress, slug

DISCOVERY = "homeassistant"  # Home Assistant's own prefix, unless somebody has changed it
BIRTH_TOPIC = f"{DISCOVERY}/status"  # "online" once Home Assistant has started
NOTHING = "None"  # how a sensor of Home Assistant says that it has no value

AVAILABILITY, STATE, CONFIDENCE = "availability", "state", "confidence"
NOVEL, IMAGE = "unknown", "image"
LABEL, LEARNING, UNDO = "label", "learning", "undo"
TO_REVIEW = "to_review"
SET = "/set"  # behind the name of a topic: what others ask for
LOOK = "look"  # asks for a look at every frame, whatever `--look` says; for automations, no entity
NO_LABEL = "(no label)"  # an option of the select

# Entities of `learn` alone, and what they are: `run` removes those that `learn` has left.
CONTROLS = {LABEL: "select", LEARNING: "switch", UNDO: "button"}


def discovery_topic(address: MqttAddress) -> str:
    """Return where the discovery message goes."""
    return f"{DISCOVERY}/device/{address.device_id}/config"


def discovery_message(
    address: MqttAddress, classes: Sequence[str], *, learns: bool, reviews: bool = False
) -> bytes:
    """Return the message that describes a camera.

    Args:
        address: Of the broker, with the camera's topics.
        classes: Names of the model's classes.
        learns: Whether the camera can be taught: `learn`.
        reviews: Whether a page shows frames that are worth a second look.

    Returns:
        JSON, ASCII.

    Example:
        >>> address = MqttAddress("broker", 1883, False, None, None, "kitchen")
        >>> message = json.loads(discovery_message(address, ["cup", "pen"], learns=False))
        >>> message["components"]["state"]["options"]
        ['cup', 'pen', 'unknown']
    """
    components: dict[str, dict[str, Any]] = {
        STATE: {
            "platform": "sensor",
            "name": "State",
            "device_class": "enum",
            "options": list(dict.fromkeys([*classes, UNKNOWN])),
        },
        CONFIDENCE: {
            "platform": "sensor",
            "name": "Confidence",
            "unit_of_measurement": "%",
            "state_class": "measurement",
            "suggested_display_precision": 0,
        },
        NOVEL: {"platform": "binary_sensor", "name": "Unknown"},
        IMAGE: {"platform": "image", "name": "Image", "content_type": "image/jpeg"},
    }
    if learns:
        options = [NO_LABEL, *(name for name in classes if name != NO_LABEL)]
        components |= {
            LABEL: {"platform": CONTROLS[LABEL], "name": "Label to teach", "options": options},
            LEARNING: {"platform": CONTROLS[LEARNING], "name": "Learning"},
            UNDO: {"platform": CONTROLS[UNDO], "name": "Undo the last label"},
        }
    if reviews:
        count = {"platform": "sensor", "name": "Frames to review", "state_class": "measurement"}
        components[TO_REVIEW] = count
    base = slug(address.name).replace("-", "_")
    for name, component in components.items():
        component["unique_id"] = f"{address.device_id}_{name}"
        component["default_entity_id"] = f"{component['platform']}.{base}_{name}"
        if name != UNDO:  # a button has no state
            component["image_topic" if name == IMAGE else "state_topic"] = address.topic(name)
        if name in CONTROLS:
            component["command_topic"] = address.topic(name + SET)
    if not learns:  # a component of its platform alone is removed
        components |= {name: {"platform": platform} for name, platform in CONTROLS.items()}
    if not reviews:
        components[TO_REVIEW] = {"platform": "sensor"}
    message = {
        "device": {
            "identifiers": [address.device_id],
            "name": address.name,
            "manufacturer": "cfl-edge",
            "model": "camera that learns" if learns else "camera",
            "sw_version": VERSION,
        },
        "origin": {"name": "cfl-edge", "sw_version": VERSION},
        "availability_topic": address.topic(AVAILABILITY),
        "components": components,
    }
    return json.dumps(message).encode("ascii")
