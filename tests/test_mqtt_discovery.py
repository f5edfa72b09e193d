"""What Home Assistant and Node-RED are told of a camera: entities and topics that they know."""

import json
import re
from pathlib import Path

import pytest
from service_checks import HOSTILE

from cfl_edge.serve.mqtt.address import MqttAddress
from cfl_edge.serve.mqtt.discovery import discovery_message

KITCHEN = MqttAddress("broker", 1883, False, None, None, "kitchen")
EXAMPLES = Path(__file__).parents[1] / "examples"

# https://www.home-assistant.io/integrations/mqtt/ and the pages of the platforms, November 2026:
# what each needs, and what else of it is used here.
REQUIRED = {
    "sensor": {"state_topic"},
    "binary_sensor": {"state_topic"},
    "image": {"image_topic"},
    "select": {"command_topic", "options"},
    "switch": {"command_topic"},
    "button": {"command_topic"},
}

OPTIONAL = {
    "sensor": {
        "device_class",
        "options",
        "state_class",
        "suggested_display_precision",
        "unit_of_measurement",
    },
    "binary_sensor": set(),
    "image": {"content_type"},
    "select": {"state_topic"},
    "switch": {"state_topic"},
    "button": set(),
}

OF_ALL = {"platform", "name", "unique_id", "default_entity_id"}
LEARNT = {"label": "select", "learning": "switch", "undo": "button", "to_review": "sensor"}
DEVICE = {"identifiers", "name", "manufacturer", "model", "sw_version"}


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("classes", [[], ["cup", "pen"], ["unknown", "(no label)"], HOSTILE])
def test_every_field_is_one_of_home_assistant(classes, learns):
    message = json.loads(discovery_message(KITCHEN, classes, learns=learns, reviews=learns))
    assert message.keys() == {"device", "origin", "availability_topic", "components"}
    assert message["device"].keys() == DEVICE
    assert message["device"]["identifiers"] == [KITCHEN.device_id]
    assert message["origin"]["name"] == "cfl-edge"
    kinds = {}
    for name, component in message["components"].items():
        platform = component["platform"]
        if component.keys() == {"platform"}:  # it is removed
            assert not learns
            continue
        kinds[name] = platform
        assert component.keys() >= OF_ALL | REQUIRED[platform]
        assert component.keys() <= OF_ALL | REQUIRED[platform] | OPTIONAL[platform]
        for key, value in component.items():
            if key.endswith("_topic"):
                assert value.startswith("kitchen/")
                assert not set(value) & {"+", "#"}
        if "options" in component:
            assert len(set(component["options"])) == len(component["options"]) > 0
            if platform == "sensor":  # options are for an enum, which has no unit and no statistics
                assert component["device_class"] == "enum"
                assert not component.keys() & {"unit_of_measurement", "state_class"}
        assert re.fullmatch(rf"{platform}\.[a-z0-9_]+", component["default_entity_id"])
    ids = [part["unique_id"] for part in message["components"].values() if "unique_id" in part]
    assert len(set(ids)) == len(ids) == (8 if learns else 4)
    assert set(message["components"]["state"]["options"]) == {*classes, "unknown"}
    assert kinds == {
        "state": "sensor",
        "confidence": "sensor",
        "unknown": "binary_sensor",
        "image": "image",
        **(LEARNT if learns else {}),
    }


def test_run_removes_what_learn_has_left():
    learns, runs = (
        json.loads(discovery_message(KITCHEN, ["cup"], learns=learns, reviews=learns))["components"]
        for learns in (True, False)
    )
    removed = {name: part for name, part in runs.items() if part.keys() == {"platform"}}
    assert removed.keys() == learns.keys() - (runs.keys() - removed.keys())
    assert all(learns[name]["platform"] == part["platform"] for name, part in removed.items())


def test_without_a_page_nothing_waits_for_a_review():
    message = json.loads(discovery_message(KITCHEN, ["cup"], learns=True))
    assert message["components"]["to_review"] == {"platform": "sensor"}  # removed


def test_the_card_shows_the_entities_that_there_are():
    message = json.loads(discovery_message(KITCHEN, ["cup"], learns=True, reviews=True))
    known = {part["default_entity_id"] for part in message["components"].values()}
    card = (EXAMPLES / "home-assistant-card.yaml").read_text()
    assert set(re.findall(r"entity: (\S+)", card)) == known


def test_the_flow_reads_and_writes_topics_that_there_are():
    message = json.loads(discovery_message(KITCHEN, ["cup"], learns=True))
    nodes = {node["id"]: node for node in json.loads((EXAMPLES / "node-red-flow.json").read_text())}
    for kind, key in (("mqtt in", "state_topic"), ("mqtt out", "command_topic")):
        known = {part.get(key) for part in message["components"].values()}
        used = {node["topic"] for node in nodes.values() if node["type"] == kind}
        assert used
        assert used <= known
    links = [link for node in nodes.values() for wire in node.get("wires", []) for link in wire]
    links += [node[key] for node in nodes.values() for key in ("z",) if key in node]
    links += [node["broker"] for node in nodes.values() if node["type"].startswith("mqtt ")]
    assert set(links) <= nodes.keys()
    (trigger,) = [node for node in nodes.values() if node["type"] == "trigger"]
    assert trigger["op2"] == message["components"]["label"]["options"][0]
