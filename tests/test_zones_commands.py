"""Commands on zones of one camera: what they print, refuse, and say to do next."""

import io
import re
import shutil
import subprocess

import numpy as np
import pytest
from command_line import SMALL, assert_error, cfl_edge
from zone_scenes import HALVES, scene

from cfl_edge import Frame
from cfl_edge.errors import ModelWriteError
from cfl_edge.frame.prediction import Prediction
from cfl_edge.frame.step import Step
from cfl_edge.loop.publish import Publisher
from cfl_edge.loop.zones import left_over
from cfl_edge.model.last_stream import learn_command
from cfl_edge.model.store import Store
from cfl_edge.view.reporter import Reporter


def test_lines_tell_of_every_zone(stream, zones, tmp_path):
    words = ("--zones", zones, "--model", tmp_path / "model", "--label", "door/on", *SMALL)
    result = cfl_edge("learn", "--stream", stream, *words, "--max-frames", "2")
    assert result.code == 0, result.err
    assert "\ndoor  frame 1/24" in result.out
    assert "\nbin  frame 1/24" in result.out
    assert "door: labels: every frame is on" in result.out
    assert result.out.splitlines()[-1].startswith("next       cfl-edge ")


def test_a_line_of_one_zone_is_followed_by_those_of_the_others():
    out, now_s = io.StringIO(), [0.0]
    reporter = Reporter(file=out, clock=lambda: now_s[0])
    answer = Prediction("on", 1.0, None, np.ones(1, np.float32))
    for index in range(5):
        for zone in ("door", "bin", "gate"):
            now_s[0] += 0.9  # it is time for a line at another zone each
            frame = Frame(scene("on", "off"), 0.0, index)
            reporter.step(Step(frame, answer, frames=index + 1, zone=zone))
    lines = [line.split("  ")[:2] for line in out.getvalue().splitlines()]
    assert len(lines) >= 9
    assert [zone for zone, _ in lines] == ["door", "bin", "gate"] * (len(lines) // 3)
    assert all(len({shown for _, shown in lines[i : i + 3]}) == 1 for i in range(0, len(lines), 3))


def test_the_next_command_is_one_for_all_zones(stream, zones, tmp_path):
    model = tmp_path / "m"
    words = ("--stream", stream, "--zones", zones, "--model", model, "--max-frames", "2", *SMALL)
    again = f"--stream {stream} --zones {zones} --model {model}"
    for command, expected in (
        (("learn",), f"cfl-edge learn {again} --label door/NAME"),
        (("teach", "--ui-port", "0", "--realtime", "50"), f"cfl-edge teach {again}"),
        (
            ("learn", "--label", "door/on", "--learn-flagged"),
            f"cfl-edge run {model} --stream {stream}",
        ),
    ):
        result = cfl_edge(*command, *words)
        assert result.out.splitlines()[-1] == f"next       {expected}", result.err


def test_what_no_zone_could_publish_is_told_of_each(stream, zones, tmp_path, monkeypatch):
    def fails(publisher):
        return ModelWriteError(f"{publisher._path} cannot be written", hint="free some space")

    monkeypatch.setattr(Publisher, "finish", fails)
    words = (
        "--zones",
        zones,
        "--model",
        tmp_path / "model",
        "--label",
        "door/on",
        "--learn-flagged",
    )
    published = tmp_path / "out"
    result = cfl_edge(
        "learn", "--stream", stream, *words, *SMALL, "--publish", published / "p.onnx"
    )
    assert_error(result, 4, f"{published / 'door/p.onnx'} cannot be written")
    assert f"\nbin: {published / 'bin/p.onnx'} cannot be written; free some space\n" in result.err
    assert "model/door/onnx/model.onnx\n" in result.out  # that is written all the same


def test_a_model_and_zones_do_not_share_a_folder(taught, zones, stream):
    asked = ("--zones", zones, "--model", taught / "model/door")
    result = cfl_edge("learn", "--stream", "demo:", *asked)
    assert_error(result, 4, "door holds a model, expected a folder for the models of zones")
    result = cfl_edge("learn", "--stream", "demo:", "--model", taught / "model")
    assert_error(result, 4, "holds models of zones (bin, door) and none of its own")
    for words in (
        ("undo", taught / "model", "--hold"),
        ("export", taught / "model", "-o", "x"),
        ("export", taught / "model"),
        ("evaluate", taught / "model", "--data", "demo:?frames=1"),
    ):
        result = cfl_edge(*words)
        assert_error(result, 4, "holds models of zones (bin, door) and none of its own")
        assert f"try: the same command with {taught / 'model/bin'}; " in result.err
        again = f"cfl-edge teach --model {taught / 'model'} --stream {stream} --zones "
        assert f"{again}{taught / 'zones.toml'} goes on teaching all of them" in result.err


def test_a_zone_that_was_renamed_is_told_of_and_how_to_drop_it(taught, tmp_path):
    model, file = tmp_path / "model", tmp_path / "zones.toml"
    shutil.copytree(taught / "model", model)
    text = (taught / "zones.toml").read_text()
    for place in (model / "door", model / "bin"):  # as if it had been learned here
        saved = Store(place).load()
        saved.manifest["counters"]["zones"] = str(file)
        Store(place).save(saved.manifest, saved.tensors)
    file.write_text(text)
    assert left_over(model) == left_over(model, file) == []
    file.write_text(text.replace("[bin]", "[basket]"))
    told = f"zone bin is in {model} but not in {file}"
    moving = f"mv {model / 'bin'} {model / 'basket'}"
    for said, command in (
        (left_over(model), moving),
        (left_over(model, file), f"rm -rf {model / 'basket'} && {moving}"),
    ):
        forgets = f"rm -r {model / 'bin'} forgets it"
        kept = f"{forgets}, and {command} keeps it as zone basket"
        assert len(said) == 1
        assert said[0].startswith(told)
        assert said[0].endswith(kept)
    ran = cfl_edge("run", model, "--stream", "demo:?frames=2")
    assert told in ran.err
    refused = ("learn", "--stream", "demo:?frames=1", "--model", model, "--zones", file)
    assert told in cfl_edge(*refused, "--label", "basket/x", *SMALL, "--max-frames", 1).err
    # It is taught alone from now on; the others with their camera.
    assert learn_command(model / "bin").startswith(f"cfl-edge teach --model {model / 'bin'} ")
    assert f"teach --model {model} " in learn_command(model / "door")
    shutil.rmtree(model / "bin")
    assert left_over(model) == []
    file.unlink()
    assert left_over(model) == []
    assert learn_command(model / "door").startswith(f"cfl-edge teach --model {model / 'door'} ")


DOOR_LAST = ("basket", "door")


def test_an_untaught_zone_of_a_new_name_gives_way_to_the_model_of_before(taught, tmp_path):
    model, file = tmp_path / "model", tmp_path / "zones.toml"
    shutil.copytree(taught / "model", model)
    file.write_text((taught / "zones.toml").read_text().replace("[bin]", "[basket]"))
    frames = ("learn", "--stream", "demo:?frames=1", "--model", model, "--zones", file, *SMALL)
    assert cfl_edge(*frames, "--no-export").code == 0  # makes a model of each zone
    (said,) = left_over(model, file)
    command = said.partition("forgets it, and ")[2].partition(" keeps it")[0]
    subprocess.run(["sh", "-c", command], check=True)
    assert left_over(model, file) == []
    assert sorted(place.name for place in model.iterdir() if place.is_dir()) == ["basket", "door"]
    assert not (model / "basket/bin").exists()
    for onnx in model.rglob("*.onnx"):
        onnx.unlink()
    result = cfl_edge("run", model, "--stream", "demo:?frames=1")
    exports = (f"cfl-edge export {model / name} -o {model / name}/onnx" for name in DOOR_LAST)
    assert result.err.endswith(f"try: {' && '.join(exports)}\n")


@pytest.mark.parametrize("words", [("undo", "--frames", 1), ("region", "0,0,0.4,1")])
def test_what_comes_next_for_a_zone_teaches_all_zones_of_its_camera(
    taught, stream, tmp_path, words
):
    model = shutil.copytree(taught / "model", tmp_path / "model")
    shutil.rmtree(model / "door" / "onnx")
    verb, *options = words
    result = cfl_edge(verb, model / "door", *options)
    command = f"cfl-edge teach --model {model} --stream {stream} --zones {taught / 'zones.toml'}"
    assert result.out.splitlines()[-1].endswith(command), result.err


def test_memory_that_is_short_for_a_zone_is_told_as_its_part(stream, zones, tmp_path):
    words = ("--stream", stream, "--zones", zones, "--model", tmp_path / "m", "--memory-mib", "2")
    result = cfl_edge("learn", *words, *SMALL)
    assert_error(result, 2, "Zone door has 1/2 of --memory-mib: --memory-mib is 1, but learning")
    needed = re.search(r"try: 2 times of what it needs: --memory-mib (\d+)", result.err)
    enough = ("--memory-mib", 2 * int(needed[1]), "--max-frames", "1")
    assert cfl_edge("learn", *words, *SMALL, *enough).code == 0


def test_published_zones_are_run(taught, stream, tmp_path):
    for zone in HALVES:
        (tmp_path / "live" / zone).mkdir(parents=True)
        shutil.copy(taught / "model" / zone / "onnx/model.onnx", tmp_path / "live" / zone)
    words = ("run", tmp_path / "live", "--stream", stream, "--max-frames", "2", "--json")
    assert set(cfl_edge(*words).summary["zones"]) == set(HALVES)
