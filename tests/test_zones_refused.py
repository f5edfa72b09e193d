"""What --zones and the options beside it say, and what is refused with a hint."""

import pytest
from command_line import SMALL, assert_error, cfl_edge
from learn_settings import load_settings
from zone_scenes import settings

from cfl_edge.errors import UsageError
from cfl_edge.loop.zones import Zone, zones_to_learn
from cfl_edge.serve.mqtt.address import mqtt_address

HOSTILE = {
    "none": ("", "has 0 zones, expected 1 to 16"),
    "not_toml": ("[door", "is not TOML"),
    "not_utf8": (b"[d\xff]", "is not TOML"),
    "deep": ("a = " + "[" * 90_000, "is not TOML"),
    "huge": ("#" * (1 << 19), "has more than"),
    "digits": ("a = " + "1" * 6000, "is not TOML"),
    "twice": ('[door]\nregion = "0,0,1,1"\n[door]\nregion = "0,0,1,1"', "is not TOML"),
    "number": ("door = 3", "door is 3, expected a table"),
    "many": ("\n".join(f'[z{i}]\nregion = "0,0,0.5,1"' for i in range(17)), "has 17 zones"),
    "no_region": ("[door]\nfit = 'pad'", "zone door: region is missing"),
    "typo": ("[door]\nregoin = '0,0,0.5,1'", "zone door: There is no setting 'regoin'"),
    "not_a_region": ("[door]\nregion = '9'", "zone door: region is '9'"),
    "outside": ("[door]\nregion = '0.5,0,0.6,1'", "zone door: region is '0.5,0,0.6,1'"),
    "region_number": ("[door]\nregion = 9", "zone door: region is 9, expected text"),
    "fit": ("[door]\nregion = '0,0,0.5,1'\nfit = 'zoom'", "zone door: fit is 'zoom'"),
    "look": ("[door]\nregion = '0,0,0.5,1'\nlook = 0", "zone door: look is 0"),
    "up": ("['../door']\nregion = '0,0,0.5,1'", "a zone '../door', expected a name"),
    "dot": ("['.']\nregion = '0,0,0.5,1'", "a zone '.', expected a name"),
    "escape": ('["d\\u001b[31m"]\nregion = "0,0,0.5,1"', r"a zone 'd\x1b[31m', expected a name"),
    "empty": ("['']\nregion = '0,0,0.5,1'", "a zone '', expected a name"),
    "same": (
        '["caf\\u00e9"]\nregion = "0,0,0.5,1"\n["cafe\\u0301"]\nregion = "0,0,0.5,1"',
        "expected a name of its own",
    ),
    "capitals": (
        '[Door]\nregion = "0,0,0.5,1"\n[door]\nregion = "0,0,0.5,1"',
        "a zone 'door', expected a name of its own, also in capitals",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_file_that_is_not_right_is_told_with_a_hint(kind, tmp_path):
    text, words = HOSTILE[kind]
    path = tmp_path / "zones.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    model = tmp_path / "model"
    result = cfl_edge("learn", "--stream", "demo:", "--zones", path, "--model", model)
    assert_error(result, 2, f"--zones {path}", words)
    assert str(path) in result.err.split("try: ")[1] or "[door]" in result.err.split("try: ")[1]
    assert not model.exists()


def test_a_file_that_cannot_be_read(tmp_path):
    for path, words in (("lost.toml", "No such file"), (".", "Is a directory")):
        asked = ("--zones", tmp_path / path, "--model", tmp_path / "model")
        assert_error(cfl_edge("learn", "--stream", "demo:", *asked), 2, "cannot be read", words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--region", "0,0,0.5,1"), "--region is 0,0,0.5,1 and --zones is"),
        (("--label", "open"), "--label is open, expected zone/label"),
        (("--label", "window/open"), "--label is window/open, expected zone/label"),
        (("--label", "door/"), "--label is door/, expected zone/label"),
        (("--labels-from", "dirs"), "--labels-from dirs names one class at a time"),
        (("--labels-from", "keys"), "--labels-from keys names one class at a time"),
        (("--ui", "--ui-port", "65535"), "The port of zone bin would be 65536"),
    ],
)
def test_what_does_not_go_with_zones(zones, tmp_path, options, words):
    asked = ("--zones", zones, "--model", tmp_path / "model", *SMALL)
    assert_error(cfl_edge("learn", "--stream", "demo:", *asked, *options), 2, words)


def test_a_label_to_post_is_json(zones, tmp_path):
    asked = ("--zones", zones, "--model", tmp_path / "model", "--labels-from", "dirs")
    hint = '--labels-from http, then POST {"label": "door/open"} to /api/v1/label\n'
    assert cfl_edge("learn", "--stream", "demo:", *asked).err.endswith(f"try: {hint}")


def test_what_the_zones_share_is_divided(zones, tmp_path):
    asked = settings(
        "demo:",
        zones,
        tmp_path / "m",
        memory_mib=60,
        learn_budget_ms=10,
        write_gb_per_day=4,
        publish=tmp_path / "live" / "model.onnx",
    )
    made = zones_to_learn(asked)
    for zone in made:
        own = zone.settings
        assert (own.memory_mib, own.learn_budget_ms, own.write_gb_per_day) == (30, 5, 2)
        assert own.publish == tmp_path / "live" / zone.name / "model.onnx"
        assert zone.port(8080) == 8080 + zone.number
        assert zone.port(0) == 0
        assert zone.state("open") == f"{zone.name}/open"
    (alone,) = zones_to_learn(load_settings(stream="demo:", model=tmp_path / "m"))
    assert (alone.name, alone.part, alone.state("open")) == (None, 1.0, "open")
    with pytest.raises(UsageError, match="would be 65537"):
        Zone("bin", asked, number=2).port(65535)


def test_a_zone_is_a_device_of_its_own_on_a_broker():
    address = mqtt_address("mqtt://broker/kitchen", "demo:", {})
    door = address.zone("door")
    assert door.topic("state") == "kitchen/door/state"
    assert door.name == "kitchen door"
    assert door.device_id != address.device_id
    assert address.zone(None) is address


def test_a_folder_without_zones_is_told_as_before(tmp_path):
    (tmp_path / "notes").mkdir()
    result = cfl_edge("run", tmp_path, "--stream", "demo:")
    assert result.code == 4
    assert "error: " in result.err
