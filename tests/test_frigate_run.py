"""`run` on what Frigate has tracked, with its broker; and the pictures that it has classified."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from command_line import SMALL, cfl_edge
from encoded import jpeg
from frigate_server import ESCAPED, PASSWORD, USER, event, until
from mosquitto import Home, free_port
from PIL import Image
from service_checks import model_bytes

from cfl_edge.config.learn import RunSettings
from cfl_edge.errors import UsageError
from cfl_edge.serve.outputs import Outputs
from cfl_edge.serve.run import run
from cfl_edge.stream.open import open_stream


@pytest.fixture
def colours(tmp_path):
    (tmp_path / "m.onnx").write_bytes(model_bytes(["fox", "cat", "dog"]))  # red, green, blue
    return tmp_path / "m.onnx"


@contextmanager
def running(command):
    """A process that is killed at the end, if it has not ended; its streams are one."""
    with subprocess.Popen(
        [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_run_from_event_to_sub_label_also_after_the_broker_was_away(broker, frigate, port, colours):
    frigate.login = True
    frigate.pictures |= {"1.5-a": jpeg("red"), "2.5-a": jpeg("blue"), "3.5-a": jpeg("green")}
    uri = f"frigate-events://{USER}:{ESCAPED}@127.0.0.1:{port}/front_door"
    command = [sys.executable, "-m", "cfl_edge", "run", colours, "--stream", uri, "--json"]
    command += ["--mqtt", f"{broker.url}/yard", "--max-frames", 3, "--stable-frames", 1]
    with running(command) as process:
        with Home(broker.port) as home:
            until(lambda: home.text("yard/availability") == "online")
            home.say("frigate/events", json.dumps(event(id="1.5-a")))
            until(lambda: frigate.sub_labels)
            until(lambda: home.text("yard/state") == "fox")
        broker.kill()
        broker.start()
        with Home(broker.port) as home:
            until(lambda: home.text("yard/availability") == "online")
            home.say("frigate/events", json.dumps(event(id="2.5-a", camera="hall")))
            home.say("frigate/events", json.dumps(event(id="2.5-a")))
            home.say("frigate/events", json.dumps(event(id="3.5-a")))
            told = process.communicate(timeout=60)[0]
    assert process.returncode == 0, told
    assert [(id, body["subLabel"]) for id, body in frigate.sub_labels] == [
        ("1.5-a", "fox"),
        ("2.5-a", "dog"),
        ("3.5-a", "cat"),
    ]
    steps = [json.loads(line) for line in told.splitlines()]
    assert [one["name"] for one in steps if one["event"] == "frame"] == ["1.5-a", "2.5-a", "3.5-a"]
    assert steps[-1]["seen"] == 3
    for secret in (PASSWORD, ESCAPED, "s3cret"):
        assert secret not in told


def ask(port):
    """What /healthz says; None before it listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as said:
            return json.load(said)
    except urllib.error.URLError:
        return None


def test_a_run_is_healthy_before_the_first_event_and_ends_by_a_signal(
    broker, frigate, port, colours
):
    http = free_port()
    command = [sys.executable, "-m", "cfl_edge", "run", colours, "--json", "--http", http]
    command += ["--stream", f"frigate-events://127.0.0.1:{port}", "--mqtt", f"{broker.url}/yard"]
    with running(command) as process, Home(broker.port) as home:
        until(lambda: home.text("yard/availability") == "online")
        assert until(lambda: ask(http)) == {"healthy": True, "reason": None}
        frigate.pictures["1.5-a"] = jpeg("red")
        home.say("frigate/events", json.dumps(event(id="1.5-a")))
        until(lambda: frigate.sub_labels)
        process.send_signal(signal.SIGTERM)
        told = process.communicate(timeout=30)[0]
        until(lambda: home.text("yard/availability") == "offline")
    assert process.returncode == 0, told
    assert json.loads(told.splitlines()[-1])["seen"] == 1


def test_a_signal_before_the_first_event_or_while_all_is_closed_ends_a_run_well(
    colours, monkeypatch
):
    close = Outputs.__exit__

    def late(self, *_):
        signal.raise_signal(signal.SIGINT)
        close(self)

    def early(text):
        if text.startswith("frigate-events"):
            signal.raise_signal(signal.SIGINT)

    settings = RunSettings(
        model=colours, stream="frigate-events://127.0.0.1:9", mqtt="mqtt://127.0.0.1:9/x"
    )
    (summary,) = run(settings, on_notice=early).values()
    assert (summary.seen, summary.ended_by) == (0, "Ctrl-C")
    monkeypatch.setattr(Outputs, "__exit__", late)
    settings = RunSettings(model=colours, stream="demo:?frames=3")
    (summary,) = run(settings, on_notice=print).values()
    assert summary.seen == 3


@pytest.fixture
def clips(tmp_path):
    """What Frigate's classification collects: of each class, and lately."""
    for number, (place, ending) in enumerate(
        (place, ending)
        for place in ("dataset/leo", "dataset/charlie", "dataset/none", "train")
        for ending in ("png", "webp")
    ):
        folder = tmp_path / "clips" / "cats" / place
        folder.mkdir(parents=True, exist_ok=True)
        name = f"1762371923.4{number}-k8xv2f-1762371925.17-unknown-0.61.{ending}"
        picture = Image.new("RGB", (90, 120), (40, 30 * number, 200))
        color = "red" if place.endswith("leo") else "white"
        picture.paste(color, (9 * number, 20, 9 * number + 30, 90 - 5 * number))
        picture.save(folder / name)
    return tmp_path / "clips" / "cats"


def test_the_folders_of_frigates_classification_are_classes(clips, tmp_path):
    (clips / "dataset" / "none").rename(tmp_path / "none")  # --reject says what is none of them
    result = cfl_edge(
        "learn", "--stream", clips / "dataset", "--labels-from", "dirs",
        "--model", tmp_path / "m", "--no-export", "--json", *SMALL,
    )  # fmt: skip
    assert result.code == 0, result.err
    assert result.summary["classes"] == ["charlie", "leo"]
    assert result.summary["learned"] == 4


def test_the_folder_above_them_is_no_set_of_classes(clips, tmp_path):
    result = cfl_edge(
        "learn", "--stream", clips, "--labels-from", "dirs", "--model", tmp_path / "m"
    )
    assert result.code == 4
    assert f"--stream {clips}/dataset to learn" in result.err


@pytest.mark.parametrize(
    ("more", "said", "hint"),
    [
        ((), "--mqtt is missing", "--mqtt mqtt://nas"),
        (("--mqtt", "mqtt://b/p", "--look", "motion"), "--look is motion", "leave --look away"),
    ],
)
def test_options_that_do_not_fit_are_named(colours, more, said, hint):
    result = cfl_edge("run", colours, "--stream", "frigate-events://ann:pw@nas/door", *more)
    assert result.code == 2
    assert said in result.err
    assert hint in result.err
    assert "ann:pw" not in result.err


def test_zones_are_refused(tmp_path, colours):
    for zone in ("door", "bin"):
        (tmp_path / "zones" / zone).mkdir(parents=True)
        os.link(colours, tmp_path / "zones" / zone / "model.onnx")
    result = cfl_edge(
        "run", tmp_path / "zones", "--stream", "frigate-events://nas", "--mqtt", "mqtt://b/p"
    )
    assert (result.code, "has zones" in result.err) == (2, True)


def test_only_run_listens_to_events():
    with pytest.raises(UsageError, match="which only run listens to") as caught:
        open_stream("frigate-events://ann:pw@nas/door")
    assert caught.value.hint == (
        "cfl-edge run model.onnx --stream frigate-events://nas:5000/door --mqtt mqtt://nas"
    )
