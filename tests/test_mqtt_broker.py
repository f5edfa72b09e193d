"""`--mqtt` with a real broker: what stands there is right, whatever happens to it."""

import itertools
import signal
import socket
import ssl
import subprocess
import sys
import time
from concurrent.futures import Future

import pytest
from command_line import MAIN, SMALL, UNSYNCED
from mosquitto import (
    PASSWORD,
    Home,
    Mosquitto,
    free_port,
    require_mosquitto,
    wait_for,
    write_certificate,
)
from service_checks import model_bytes
from steps import changed

from cfl_edge.serve.mqtt import camera as camera_module
from cfl_edge.serve.mqtt.address import mqtt_address
from cfl_edge.serve.mqtt.broker import KEEPALIVE_S, unreached
from cfl_edge.serve.mqtt.camera import MqttCamera
from cfl_edge.serve.mqtt.discovery import discovery_topic


@pytest.fixture
def address(broker):
    return mqtt_address(f"{broker.url}/house/door", "demo:", {})


@pytest.fixture
def camera(address, notices):
    with MqttCamera(address, notices.append) as camera:
        yield camera


def see(camera, state, classes=("cup", "pen")):
    camera.see(changed(prediction=state, score=0.9, state=state, changed=True), classes)


def test_what_a_camera_says_is_kept_for_those_who_come_later(broker, camera, address, notices):
    see(camera, "cup")
    with Home(broker.port) as home:
        wait_for(lambda: home.text("house/door/state") == "cup")
        wait_for(lambda: "house/door/image" in home.newest)
    with Home(broker.port) as later:
        wait_for(lambda: len(later.newest) == 6)
        assert all(retained for _, _, retained in later.heard)
        assert list(later.discoveries()) == [discovery_topic(address)]
        assert later.text("house/door/availability") == "online"
        assert later.newest["house/door/image"].startswith(b"\xff\xd8\xff")
    assert notices == [f"MQTT: mqtt://127.0.0.1:{broker.port}/house/door is connected"]


def test_the_end_says_offline_and_the_last_state(broker, address, notices):
    with MqttCamera(address, notices.append) as camera:
        see(camera, "cup")
        with Home(broker.port) as home:
            wait_for(lambda: home.text("house/door/state") == "cup")
            see(camera, "pen")
            camera.__exit__()
            wait_for(lambda: home.text("house/door/availability") == "offline")
            assert home.text("house/door/state") == "pen"


def test_home_assistant_that_has_started_is_told_everything_again(broker, camera, address):
    see(camera, "cup")
    with Home(broker.port) as home:
        wait_for(lambda: home.text("house/door/state") == "cup")
        wait_for(lambda: "house/door/image" in home.newest)
        home.heard.clear()
        home.say("homeassistant/status", "online")
        again = {discovery_topic(address), "house/door/state", "house/door/availability"}
        wait_for(lambda: again <= {topic for topic, _, retained in home.heard if not retained})


@pytest.mark.parametrize(
    "times", [4, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(300)])]
)
def test_a_broker_that_is_killed_again_and_again(broker, camera, address, notices, times):
    """Nothing is kept by this broker: whatever is missing afterwards, nobody has sent again."""
    names = ["cup", "pen"]
    see(camera, "cup")
    with Home(broker.port) as home:
        wait_for(lambda: home.text("house/door/state") == "cup")
    for number in range(times):
        broker.kill()
        names[number % 2] += "!"  # renamed while nobody listens
        state = names[(number + 1) % 2]
        see(camera, "something", names)
        see(camera, state, names)
        broker.start()
        with Home(broker.port) as home:
            wait_for(lambda home=home: len(home.newest) == 6)
            wait_for(lambda home=home, state=state: home.text("house/door/state") == state)
            ((topic, message),) = home.discoveries().items()
            assert topic == discovery_topic(address)
            assert message["components"]["state"]["options"] == [*names, "unknown"]
            assert home.text("house/door/availability") == "online"
    assert PASSWORD not in " ".join(notices)
    assert "is lost: the broker or the network ended the connection; try: the log" in notices[1]
    assert len(notices) <= 1 + 4  # a minute apart: connected, lost, and why it is not reached


def test_a_wrong_password_is_said_once_and_not_shown(broker, notices):
    address = mqtt_address(f"mqtt://camera:wrong-one@127.0.0.1:{broker.port}/door", "demo:", {})
    with MqttCamera(address, notices.append) as camera:
        see(camera, "cup")
        wait_for(lambda: notices)
        time.sleep(1.5)
    (notice,) = notices
    assert "refuses: Not authorized; try: the user in --mqtt" in notice
    assert "wrong-one" not in notice


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (2, "refuses: Client identifier not valid; try: another prefix"),
        (3, "refuses: Server unavailable; try: the log of the broker"),
        (77, "refuses: it gives no reason; try: the log of the broker"),
    ],
)
def test_a_broker_that_refuses_says_why(notices, number, words):
    pytest.importorskip("paho.mqtt.client")
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"mqtt://127.0.0.1:{server.getsockname()[1]}/door"
        with MqttCamera(mqtt_address(url, "demo:", {}), notices.append):
            client, _ = server.accept()
            client.recv(1000)
            client.sendall(bytes([0x20, 2, 0, number]))  # CONNACK of MQTT 3.1.1
            wait_for(lambda: notices)
            client.close()
    assert words in notices[0]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "host is not found; try: ping broker"),
        (ConnectionRefusedError(111, "Connection refused"), "1883 for mqtt:// and 8883 for mqtts:"),
        (ssl.SSLError(1, "wrong version number"), "no TLS there; try: mqtt:// or the port 8883"),
        (OSError(113, "No route to host"), "No route to host; try: ping broker"),
        (TimeoutError(), "it does not answer in time; try: ping broker"),
        (None, "it does not answer in time; try: ping broker"),
    ],
)
def test_a_broker_that_cannot_be_reached_is_said_in_words(error, words):
    assert words in unreached(error, mqtt_address("mqtts://broker/door", "demo:", {}))


def test_what_is_asked_for_reaches_the_session(broker, address, notices):
    asked = []

    def submit(verb, arguments):
        asked.append((verb, dict(arguments)))
        return Future()

    with Home(broker.port) as home:
        home.say("house/door/undo/set", "PRESS", retain=True)  # left there by somebody
        with MqttCamera(address, notices.append, submit=submit):
            wait_for(lambda: notices)
            wait_for(lambda: ("status", {}) in asked)
            while ("label", {"label": "cup"}) not in asked:  # until it has subscribed
                home.say("house/door/label/set", "cup")
                time.sleep(0.1)
            home.say("house/door/learning/set", "OFF")
            wait_for(lambda: ("pause", {}) in asked)
    told = [one for one in asked if one[0] != "status"]
    assert [one for one, _ in itertools.groupby(told)] == [
        ("label", {"label": "cup"}),
        ("pause", {}),
    ]


def test_a_process_that_is_killed_is_offline_by_its_last_will(broker, tmp_path):
    (tmp_path / "m.onnx").write_bytes(model_bytes(["cup", "pen"]))
    command = [sys.executable, "-m", "cfl_edge", "run", tmp_path / "m.onnx", "--stream"]
    command += ["demo:?frames=100000", "--realtime", "20", "--mqtt", f"{broker.url}/door"]
    with subprocess.Popen(
        [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        with Home(broker.port) as home:
            wait_for(lambda: home.text("door/availability") == "online", timeout_s=60)
            wait_for(lambda: home.text("door/state") in ("cup", "pen"))
            process.send_signal(signal.SIGKILL)
            wait_for(lambda: home.text("door/availability") == "offline")
        assert PASSWORD not in process.stdout.read()


@pytest.fixture
def certificate(tmp_path):
    """A certificate of 127.0.0.1 that signs itself, and the broker's lines for it."""
    key, certificate = write_certificate(tmp_path)
    return certificate, f"certfile {certificate}\nkeyfile {key}\n"


# paho leaves the socket of a refused certificate to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("is_trusted", [True, False])
def test_a_certificate_is_checked(tmp_path, certificate, notices, monkeypatch, is_trusted):
    require_mosquitto()
    path, lines = certificate
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    broker = Mosquitto(tmp_path, more=lines)
    broker.start()
    address = mqtt_address(f"mqtts://{broker.url.partition('://')[2]}/door", "demo:", {})
    try:
        with MqttCamera(address, notices.append):
            wait_for(lambda: notices)
    finally:
        broker.kill()
    assert ("is connected" in notices[0]) == is_trusted
    assert ("its certificate is not trusted (" in notices[0]) != is_trusted
    assert PASSWORD not in notices[0]


def test_a_port_that_encrypts_is_told_from_a_broker_that_is_away(tmp_path, certificate, notices):
    require_mosquitto()
    broker = Mosquitto(tmp_path, more=certificate[1])
    broker.start()
    try:
        with MqttCamera(mqtt_address(f"{broker.url}/door", "demo:", {}), notices.append):
            wait_for(lambda: notices)
    finally:
        broker.kill()
    (notice,) = notices
    assert "does not answer; try: mqtts:// or the port 1883; the log of the broker" in notice
    assert PASSWORD not in notice


def test_requests_that_a_broker_keeps_back_are_told_and_states_are_sent(notices):
    pytest.importorskip("paho.mqtt.client")
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"mqtt://127.0.0.1:{server.getsockname()[1]}/door"
        with MqttCamera(mqtt_address(url, "demo:", {}), notices.append) as camera:
            client, _ = server.accept()
            client.recv(1000)
            client.sendall(bytes([0x20, 2, 0, 0]))  # CONNACK: welcome
            received = b""
            while b"homeassistant/status" not in received:
                received += client.recv(1000)
            first = received.index(0x82)  # SUBSCRIBE, its length, its number
            client.sendall(bytes([0x90, 3, *received[first + 2 : first + 4], 0x80]))  # SUBACK: no
            wait_for(lambda: len(notices) == 2)
            see(camera, "cup")
            while b"door/state" not in received:
                received += client.recv(1000)
            client.close()
    assert "lets nobody ask this camera for anything; try: its rules for the user" in notices[1]


def options(home, name):
    """What an entity can be, as the discovery message has it."""
    return [
        one
        for message in home.discoveries().values()
        for one in message["components"][name].get("options", [])
    ]


def test_a_session_is_taught_from_home_assistant(broker, tmp_path):
    command = [sys.executable, "-c", UNSYNCED + MAIN, "learn", "--stream", "demo:?frames=100000"]
    command += [*SMALL, "--realtime", "20", "--model", tmp_path / "m", "--no-export"]
    command += ["--mqtt", f"{broker.url}/door"]
    with subprocess.Popen(
        [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        with Home(broker.port) as home:
            wait_for(lambda: home.text("door/learning") == "ON", timeout_s=60)
            home.say("door/label/set", "a new thing")
            wait_for(lambda: home.text("door/label") == "a new thing")
            wait_for(lambda: "a new thing" in options(home, "state"))
            assert "a new thing" in options(home, "label")
            home.say("door/learning/set", "OFF")
            wait_for(lambda: home.text("door/learning") == "OFF")
            home.say("door/undo/set", "PRESS")
            wait_for(lambda: home.text("door/label") == "(no label)")
            home.say("door/learning/set", "ON")
            wait_for(lambda: home.text("door/learning") == "ON")
            process.send_signal(signal.SIGTERM)
            wait_for(lambda: home.text("door/availability") == "offline", timeout_s=30)
        told = process.communicate(timeout=60)[0]
    assert process.returncode == 0, told
    assert "undone" in told
    assert PASSWORD not in told


@pytest.fixture
def silent():
    """A broker that takes connections and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(5)
        yield server.getsockname()[1]


@pytest.mark.parametrize("kind", ["silent", "absent"])
def test_a_broker_that_does_not_answer_costs_no_frame_and_no_end(kind, silent, notices):
    pytest.importorskip("paho.mqtt.client")
    port = silent if kind == "silent" else free_port()
    with MqttCamera(
        mqtt_address(f"mqtt://127.0.0.1:{port}/door", "demo:", {}), notices.append
    ) as one:
        begin_s = time.monotonic()
        for _ in range(1000):
            see(one, "cup")
            see(one, "pen")
        assert time.monotonic() - begin_s < KEEPALIVE_S / 2
        if kind == "absent":
            wait_for(lambda: notices)
        begin_s = time.monotonic()
    assert time.monotonic() - begin_s < KEEPALIVE_S / 2
    if kind == "absent":
        assert "cannot be reached" in notices[0]
        assert "nothing listens there (connection refused); try: its port" in notices[0]


def test_a_fault_within_is_said_once_and_the_camera_goes_on(broker, address, notices, monkeypatch):
    """A picture that cannot be made, a tick or a message that fails: what comes after is sent."""

    def faulty(*_):
        raise ValueError("no memory for it")

    monkeypatch.setattr(camera_module, "jpeg", faulty)
    with MqttCamera(address, notices.append) as camera, Home(broker.port) as home:
        camera._broker.on_message = camera._broker.on_tick = faulty
        for state in ("cup", "pen", "cup"):
            see(camera, state)
            wait_for(lambda state=state: home.text("house/door/state") == state)
        home.say("homeassistant/status", "online")
        time.sleep(0.3)
        see(camera, "pen")
        wait_for(lambda: home.text("house/door/state") == "pen")
        assert camera._broker._thread.is_alive()
    faults = [text for text in notices if "goes on after a fault" in text]
    assert len(faults) == 1
    assert "no memory for it" in faults[0]
