"""What a memory limit makes of a configuration, and that learning keeps to it."""

import dataclasses
import json
import subprocess
import sys

import pytest

from cfl_edge.core.networks import build_network
from cfl_edge.errors import UsageError
from cfl_edge.learner.config import LearnerConfig
from cfl_edge.learner.memory_fit import fit_memory
from cfl_edge.learner.memory_plan import MIB, plan_memory

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc/self/clear_refs")
CONFIG = LearnerConfig(backbone="none", layers="8x64", image_px=96, batch=16)


def test_a_plan_adds_up():
    plan = plan_memory(CONFIG)
    state = sum(2 * layer.weights_bytes for layer in plan.layers)
    covariance = 2 * plan.statistics_bytes  # and its factor
    assert plan.kept_bytes == state + 16 * MIB + covariance + plan.runtime_bytes
    assert plan.total_bytes == plan.kept_bytes + plan.peak_layer.update_bytes
    weights = [
        sum(p.nbytes for p in layer.parameters()) for layer in build_network("8x64", (3, 96, 96))
    ]
    assert [layer.weights_bytes for layer in plan.layers] == weights


def test_a_limit_costs_time_first_then_replay_memory_then_optimizer_state():
    wanted = plan_memory(CONFIG).total_bytes / MIB
    roomy, tight, tighter = (
        fit_memory(CONFIG, limit).config for limit in (wanted + 1, wanted - 5, wanted - 20)
    )
    assert roomy == CONFIG
    assert tight == dataclasses.replace(CONFIG, chunk=1)
    assert tighter == dataclasses.replace(CONFIG, recompute=True)
    least = fit_memory(CONFIG, 53)
    assert least.config.replay_mib < 16
    assert least.config.optimizer == "adamw"


def test_layers_without_a_closed_form_are_never_recomputed():
    config = LearnerConfig(backbone="none", layers="conv256", image_px=32)
    for limit in range(75, 95, 5):
        assert not fit_memory(config, limit).config.recompute


def test_every_choice_is_below_its_limit_and_the_refusal_names_what_fits():
    for limit in range(10, 130, 40):
        try:
            plan = fit_memory(CONFIG, limit)
        except UsageError as error:
            least = int(error.hint.split()[1].rstrip(","))
            assert least > limit
            assert fit_memory(CONFIG, least).total_bytes <= least * MIB
        else:
            assert plan.total_bytes <= limit * MIB


def test_what_the_user_gave_stays():
    given = dataclasses.replace(CONFIG, replay_mib=8.0)
    plan = fit_memory(given, 60, replay_is_given=True)
    assert plan.config.replay_mib == 8
    with pytest.raises(UsageError, match="--memory-mib is 20"):
        fit_memory(given, 20, replay_is_given=True, optimizer_is_given=True)


@LINUX
@pytest.mark.parametrize(
    ("backbone", "layers", "image_px"),
    [("none", "2x64", 48), ("none", "conv256", 32), ("efficientnet-lite0", "256,256", 96)],
)
def test_learning_keeps_to_the_smallest_limit_that_it_accepts(tmp_path, backbone, layers, image_px):
    config = LearnerConfig(backbone=backbone, layers=layers, image_px=image_px, replay_mib=1.0)
    with pytest.raises(UsageError) as refused:
        fit_memory(config, 1, replay_is_given=True, optimizer_is_given=True)
    limit = refused.value.hint.split()[1].rstrip(",")
    command = [
        *(sys.executable, "-m", "cfl_edge", "learn", "--stream", "demo:?frames=60", "--json"),
        *(
            "--backbone",
            backbone,
            "--layers",
            layers,
            "--image",
            str(image_px),
            "--replay-mib",
            "1",
        ),
        *("--optimizer", "adamw", "--memory-mib", limit, "--model", str(tmp_path / "model")),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    growth_mib = json.loads(done.stdout.splitlines()[-1])["growth_mib"]
    assert 0.5 * int(limit) < growth_mib < int(limit)
