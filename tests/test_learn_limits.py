"""`learn` with limits of memory and time: what fits is told, what does not is refused."""

import pytest
from command_line import assert_error, cfl_edge
from learn_settings import load_settings

from cfl_edge.core.allocator import keep_freed_memory
from cfl_edge.errors import UsageError
from cfl_edge.learner.config import LearnerConfig
from cfl_edge.learner.memory_fit import fit_memory
from cfl_edge.learner.memory_plan import MIB
from cfl_edge.model.store import Store

NETWORK = ("--backbone", "none", "--layers", "4,8", "--image", "16")
CONFIG = LearnerConfig(backbone="none", layers="4,8", image_px=16)
FRAMES = 8


@pytest.fixture(autouse=True)
def fast_memory_for_the_tests_that_follow():
    """`--memory-mib` changes how the whole process gives memory back."""
    yield
    keep_freed_memory()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "model"


def learn(folder, *arguments, frames=FRAMES, network=NETWORK):
    options = ("--stream", f"demo:?frames={frames}", "--model", folder, "--json")
    return cfl_edge("learn", *options, *network, *arguments)


def learned(folder, *arguments, **options):
    result = learn(folder, *arguments, **options)
    assert result.code == 0, result.err
    return result


def network_of(folder):
    return Store(folder).load().manifest["network"]


def hinted_mib(text):
    """The MiB that a refusal says would fit."""
    words = text.split("--memory-mib ")[-1].split(",")[0]
    return int(words)


# Memory


def test_a_limit_that_is_kept_is_told_and_the_export_is_left_to_its_command(folder):
    result = learned(folder, "--memory-mib", 64)
    (told,) = [text for text in result.notices if text.startswith("learning will add ")]
    assert "of 64 MiB: replay 16 MiB, journal 8 MiB, optimizer adamw, chunk 32" in told
    assert 0 < int(told.split()[3]) <= 64
    (export,) = [text for text in result.notices if "no ONNX files were written" in text]
    assert f"cfl-edge export {folder} -o {folder / 'onnx'}" in export
    assert "--memory-mib" in export
    assert not list(folder.rglob("*.onnx"))
    assert result.summary["learned"] == FRAMES


def test_the_command_that_the_notice_names_writes_the_files(folder):
    result = learned(folder, "--memory-mib", 64)
    (export,) = [text for text in result.notices if "no ONNX files were written" in text]
    command = export.split("cfl-edge ")[-1].split()
    assert cfl_edge(*command).code == 0
    assert (folder / "onnx/model.onnx").is_file()


def test_without_a_limit_nothing_is_said_and_the_files_are_written(folder):
    notices = learned(folder).notices
    assert not [text for text in notices if "learning will add" in text or "no ONNX" in text]
    assert (folder / "onnx/model.onnx").is_file()


def test_whoever_wants_no_export_is_not_told_of_it(folder):
    notices = learned(folder, "--memory-mib", 64, "--no-export").notices
    assert not [text for text in notices if "ONNX" in text]


def test_a_limit_that_nothing_fits_is_refused_and_the_hint_works(folder):
    refused = learn(folder, "--memory-mib", 1)
    assert_error(refused, 2, "--memory-mib is 1", "at least")
    assert not Store(folder).exists()
    least_mib = hinted_mib(refused.err)
    assert 1 < least_mib < 64
    assert fit_memory(CONFIG, least_mib).total_bytes <= least_mib * MIB
    with pytest.raises(UsageError):
        fit_memory(CONFIG, least_mib - 1)
    learned(folder, "--memory-mib", least_mib)


def test_what_was_given_is_kept_and_the_hint_counts_it(folder):
    given = ("--replay-mib", 8, "--optimizer", "adamw")
    refused = learn(folder, "--memory-mib", 31, *given)
    assert_error(refused, 2, "--memory-mib is 31")
    learned(folder, "--memory-mib", hinted_mib(refused.err), *given)
    assert (network_of(folder)["replay_mib"], network_of(folder)["optimizer"]) == (8, "adamw")


def test_a_small_limit_takes_replay_memory_and_the_model_goes_on(folder):
    first = learned(folder, "--memory-mib", 37)
    (told,) = [text for text in first.notices if text.startswith("learning will add ")]
    replay_mib = network_of(folder)["replay_mib"]
    assert replay_mib < 16
    assert f"replay {replay_mib:g} MiB" in told
    for again, options in enumerate([(), ("--memory-mib", 37), ("--memory-mib", 64)], start=2):
        result = learned(folder, *options, "--no-export")
        assert sum(result.summary["samples"].values()) == again * FRAMES
        assert network_of(folder)["replay_mib"] == replay_mib


def test_a_replay_memory_that_shrinks_keeps_what_fits(folder):
    learned(folder, "--no-export", frames=60)
    result = learned(folder, "--memory-mib", 64, "--replay-mib", 0.02)
    assert network_of(folder)["replay_mib"] == 0.02
    assert sum(result.summary["samples"].values()) == 60 + FRAMES
    saved = Store(folder).load().tensors["replay"]
    kept = sum(value.nbytes for name, value in saved.items() if "values" in name)
    assert 0 < kept <= 0.02 * MIB


def test_an_optimizer_chosen_by_a_limit_stays_with_the_model(folder):
    wide = ("--backbone", "none", "--layers", "256,256", "--image", "16")
    config = LearnerConfig(backbone="none", layers="256,256", image_px=16, replay_mib=1, chunk=1)
    least_mib = hinted_mib(learn(folder, "--memory-mib", 1, network=wide).err)
    with pytest.raises(UsageError):
        fit_memory(config, least_mib, optimizer_is_given=True)
    learned(folder, "--memory-mib", least_mib, network=wide)
    assert network_of(folder)["optimizer"] != "adamw"
    result = learned(folder, "--no-export", network=())
    assert sum(result.summary["samples"].values()) == 2 * FRAMES


# Wrong values


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--optimizer", "lion", "expected 'adamw', 'momentum' or 'sgd'"),
        ("--chunk", "0", "expected 'auto' or more than 0"),
        ("--chunk", "x", "expected 'auto' or a whole number"),
        ("--chunk", "2.5", "expected 'auto' or a whole number"),
        ("--learn-budget-ms", "-1", "expected 'auto' or at least 0"),
        ("--learn-budget-ms", "nan", "expected 'auto' or "),
        ("--learn-budget-ms", "soon", "expected 'auto' or a number"),
        ("--memory-mib", "0", "expected more than 0"),
        ("--memory-mib", "nan", "expected a finite number"),
    ],
)
def test_a_wrong_value_is_refused_with_all_that_would_do(folder, option, value, expected):
    result = learn(folder, option, value)
    assert_error(result, 2, option, expected)
    assert not Store(folder).exists()


def test_another_optimizer_than_the_models_is_refused(folder):
    learned(folder, "--no-export")
    before = Store(folder).load().manifest
    result = learn(folder, "--optimizer", "sgd")
    assert_error(result, 2, "--optimizer is sgd", "was learned with adamw")
    assert "leave --optimizer away" in result.err
    assert Store(folder).load().manifest == before
    learned(folder, "--optimizer", "adamw", "--no-export")


# What a run did


@pytest.mark.parametrize("option", [("--chunk", 2), ("--learn-budget-ms", 5), ("--chunk", "auto")])
def test_limits_of_a_step_are_taken(folder, option):
    assert learned(folder, *option, "--no-export").summary["learned"] == FRAMES


def test_a_second_start_may_take_other_chunks(folder):
    for again, chunk in enumerate(("2", "5", "auto"), start=1):
        result = learned(folder, "--chunk", chunk, "--no-export")
        assert sum(result.summary["samples"].values()) == again * FRAMES
        assert result.summary["steps"] > 0
    assert network_of(folder)["chunk"] is None


def test_a_budget_is_in_milliseconds():
    from cfl_edge.loop.learn_model import learn_budget_s

    settings = load_settings(None, stream="demo:", learn_budget_ms="5")
    assert learn_budget_s(settings) == pytest.approx(0.005)
    assert learn_budget_s(load_settings(None, stream="demo:", learn_budget_ms="0")) == 0
    assert learn_budget_s(load_settings(None, stream="demo:")) is None


def test_limits_come_from_the_environment_and_a_file_as_well(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CFL_EDGE_CHUNK", "2")
    monkeypatch.setenv("CFL_EDGE_LEARN_BUDGET_MS", "auto")
    config = tmp_path / "limits.toml"
    config.write_text('optimizer = "sgd"\nmemory_mib = 64\n')
    result = learned(folder, "--config", config)
    assert (network_of(folder)["chunk"], network_of(folder)["optimizer"]) == (2, "sgd")
    assert [text for text in result.notices if "optimizer sgd, chunk 2" in text]


def test_the_summary_counts_steps_and_memory_of_this_run(folder):
    # Four new frames a step; the first four are of one class and have no other to differ from.
    # Other images each time: near-duplicates would not count as new.
    for seed, steps in enumerate((1, 2, 2)):
        summary = learned(folder, "--no-export", "--seed", seed + 1).summary
        assert summary["steps"] == steps
        assert summary["layer_steps"] == [steps, steps]
        assert summary["steps_per_s"] == pytest.approx(steps / summary["seconds"], rel=0.05)
        assert summary["peak_rss_mib"] >= summary["growth_mib"] >= 0


def test_a_person_reads_the_same(folder):
    arguments = ("--stream", f"demo:?frames={FRAMES}", "--model", folder, "--no-export", *NETWORK)
    lines = cfl_edge("learn", *arguments).out.splitlines()
    (steps,) = [line for line in lines if line.startswith("steps ")]
    assert "per second; updates of each layer: " in steps
    (memory,) = [line for line in lines if line.startswith("memory ")]
    assert memory.endswith(" by learning")
