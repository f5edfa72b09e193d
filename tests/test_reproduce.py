"""Tables of the paper: rows, what is run and what is not, and the command line."""

import json
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from command_line import cfl_edge
from dataset_files import striped
from rule_checks import Told

from cfl_edge.errors import UsageError
from cfl_edge.lab.paper import train as command
from cfl_edge.lab.paper.options import Budget, ReproduceSettings, TrainOptions
from cfl_edge.lab.paper.published import TABLES
from cfl_edge.lab.paper.recipes import RECIPES
from cfl_edge.lab.paper.reproduce import reproduce
from cfl_edge.lab.paper.run import RunConfig, RunResult
from cfl_edge.lab.paper.table import Row, chosen, markdown, select
from cfl_edge.lab.paper.training_files import RESULTS, append_result, read_results

SMALL = ["--epochs", "1", "--device", "cpu", "--validation", "0.2"]


def settings(rows, data, out, *, what="table1", **more):
    budget = {"epochs": 1, "device": "cpu", "validation": 0.2}
    return ReproduceSettings(what=what, rows=rows, data=[str(data)], out=out, **(budget | more))


@pytest.fixture
def cifar(tmp_path):
    return striped(tmp_path / "cifar10.npz")


def test_every_cell_has_a_recipe_and_a_name_of_its_own():
    for table, cells in TABLES.items():
        assert {cell.recipe for cell in cells} <= set(RECIPES), table
        names = [cell.row for cell in cells]
        assert len(set(names)) == len(names), table
        assert all(cell.row.startswith(f"{cell.data}/") for cell in cells)


def test_the_tables_have_the_papers_cells():
    by_row = {cell.row: cell for cell in TABLES["table1"]}
    assert by_row["cifar10/cfl-conv512-b"].error == 16.31
    assert by_row["cifar100/cfl-conv256-no-fl"].error == 61.65
    assert by_row["mnist/dfa-conv256"].error == 9.4
    assert by_row["mnist/bp-conv512"].parameters == "1.335M"
    assert "cifar100/symba" not in by_row  # the paper has no such cell
    table_3 = {cell.row: cell for cell in TABLES["table3"]}
    assert (table_3["cifar10/cfl-fc-k12"].error, table_3["cifar10/cfl-fc-k12"].std) == (
        35.21,
        0.097,
    )
    assert table_3["cifar100/cfl-conv256-dict-only"].error is None  # WIP in the paper
    assert [c.error for c in TABLES["table2"] if c.coarse] == [42.38, 40.46, 59.02]


def test_rows_are_chosen_by_patterns():
    rows = select("table1", "cifar10/cfl-conv256*")
    assert {row.cell.row for row in rows} == {
        "cifar10/cfl-conv256", "cifar10/cfl-conv256-b",
        "cifar10/cfl-conv256-no-fl", "cifar10/cfl-conv256-b-no-fl",
        "cifar10/cfl-conv256-printed", "cifar10/cfl-conv256-drawn",
    }  # fmt: skip
    assert len(select("table1", "mnist/ff,mnist/pff")) == 2
    with pytest.raises(UsageError, match="names no row of table1"):
        select("table1", "cifar10/nothing*")


def test_one_run_answers_the_rows_with_and_without_a_classifier(cifar, tmp_path):
    rows = "cifar10/cfl-conv256,cifar10/cfl-conv256-no-fl"
    done = reproduce(settings(rows, cifar, tmp_path / "out"), Told())
    assert len((tmp_path / "out" / RESULTS).read_text().splitlines()) == 1
    with_classifier, without = done.rows
    result = with_classifier.runs[0]
    assert with_classifier.errors() == [100 * (1 - result.last_test["classifier"])]
    assert with_classifier.parameters() - without.parameters() == 257 * 3  # f^L: 256 and a bias
    assert without.errors()[0] == pytest.approx(100 * (1 - result.last_test["layer 2"]), abs=0.01)


def test_what_was_run_is_not_run_again_and_other_budgets_are(cifar, tmp_path, monkeypatch):
    out, ran = tmp_path / "out", []
    real = command.train

    def counted(plan, *args):
        ran.append((plan.config.recipe, plan.config.seed, plan.config.epochs))
        return real(plan, *args)

    monkeypatch.setattr(command, "train", counted)
    for _ in range(2):
        done = reproduce(settings("cifar10/bp-conv256", cifar, out, seeds=2), Told())
    assert ran == [("bp-conv256", 0, 1), ("bp-conv256", 1, 1)]
    row = done.rows[0].fields()
    assert row["seeds"] == 2
    assert row["std"] is not None
    assert row["paper_error"] == 22.52
    reproduce(settings("cifar10/bp-conv256", cifar, out, epochs=2), Told())
    assert ran[-1] == ("bp-conv256", 0, 2)


def test_a_line_that_was_cut_off_does_not_count(tmp_path):
    config = RunConfig("bp-fc", "digits", "ab12", "mnist", 0, 2, 32, 1e-3, 90, 10, 20)
    result = RunResult(config, 7, {"classifier": 0.5}, {}, {}, {}, [], 1.0)
    append_result(tmp_path, result)
    with open(tmp_path / RESULTS, "a") as file:
        file.write(result.to_json()[:40])
    assert read_results(tmp_path) == {config.key(): result}
    later = replace(result, config=replace(config, seed=1))
    append_result(tmp_path, later)
    assert list(read_results(tmp_path).values()) == [result, later]


def test_interrupted_means_what_is_done_is_kept(cifar, tmp_path):
    rows = "cifar10/bp-conv256,cifar10/cfl-conv256"

    told = Told(interrupt_after=2)  # of the steps: the first run has one
    done = reproduce(settings(rows, cifar, tmp_path), told)
    assert done.interrupted
    assert [recipe for recipe, _ in told.steps] == ["cfl-conv256", "bp-conv256"]
    assert [len(row.runs) for row in done.rows] == [1, 0]  # in the table's order
    done = reproduce(settings(rows, cifar, tmp_path), Told())
    assert [len(row.runs) for row in done.rows] == [1, 1]


def test_data_stands_in_where_one_set_is_asked_for_and_is_left_out_otherwise(tmp_path):
    birds, told = striped(tmp_path / "birds.npz"), Told()
    done = reproduce(settings("mnist/bp-conv256", birds, tmp_path), told)
    assert told.notices[0] == "birds stands in for mnist"
    assert done.rows[0].runs[0].config.kind == "mnist"
    done = reproduce(settings("*/bp-conv256", birds, tmp_path), told)
    assert [len(row.runs) for row in done.rows] == [0, 1, 0]
    assert "rows of cifar100, mnist are left out: --data names no such data" in told.notices
    with pytest.raises(UsageError, match="has nothing for the rows of cifar100, mnist"):
        reproduce(settings("mnist/bp-fc,cifar100/bp-fc", birds, tmp_path), told)


def test_zero_shot_and_learned_coarse_labels(tmp_path):
    data = striped(
        tmp_path / "cifar100.npz",
        classes=4,
        fine_to_coarse=np.arange(4) // 2,
        coarse_names=["one", "two"],
    )
    rows = "cifar100/coarse-cfl-conv256,cifar100/zero-shot-cfl-conv256-b,*zero-shot-bp-conv256*"
    done = reproduce(settings(rows, data, tmp_path, what="table2"), Told())
    learned, zero_shot, bp = done.rows
    assert learned.runs[0].config.data == "cifar100-coarse"
    assert len(learned.errors()) == 1
    run = zero_shot.runs[0]
    assert zero_shot.errors() == [100 * (1 - run.coarse_test["layer 2"])]
    assert run.config.data == "cifar100"
    assert len(bp.errors()) == 1


def test_a_row_that_cannot_be_is_told_and_the_others_go_on(tmp_path):
    tiny = striped(tmp_path / "cifar10.npz", side=6)
    rows = "cifar10/bp-vit,cifar10/cafo"
    done = reproduce(settings(rows, tiny, tmp_path / "out", what="table6"), Told())
    assert "expected 8 or more" in done.rows[0].failure
    assert done.rows[0].fields()["failure"]


def test_the_table_has_the_papers_number_beside_ours_and_the_budget(cifar, tmp_path):
    done = reproduce(settings("cifar10/bp-conv256", cifar, tmp_path), Told())
    head, line, row = markdown(done.rows)
    assert head.count("|") == line.count("|") == row.count("|")
    error = done.rows[0].errors()[0]
    assert "| BP conv256 | 151K (152.4K) | 22.52 |" in row  # 3 classes here: 1,799 fewer
    assert f"| {error:.2f} |" in row
    assert "1 epoch of 48 cifar10 images, batch 32, cpu" in row


def test_what_differs_from_the_recipe_stands_in_the_row(cifar, tmp_path):
    asked = settings(
        "cifar10/bp-conv256,cifar10/cfl-conv256", cifar, tmp_path,
        feature_loss="usual", augmentation="flip", batch_norm="re-estimated",
    )  # fmt: skip
    done = reproduce(asked, Told())
    cfl, bp = done.rows
    alike = {"augmentation": "flip", "batch_norm": "re-estimated"}
    assert cfl.fields()["options"] == {"feature_loss": "usual"} | alike
    assert bp.fields()["options"] == alike
    *_, of_cfl, of_bp = markdown(done.rows)
    assert "float32, usual, re-estimated, flip, " in of_cfl
    assert "float32, re-estimated, flip, " in of_bp


def test_readings_of_the_paper_have_rows_of_their_own_whatever_is_asked_of_the_others(tmp_path):
    data = striped(tmp_path / "cifar10.npz")
    rows = "cifar10/cfl-conv256,cifar10/cfl-conv256-printed,cifar10/cfl-conv256-drawn"
    for asked, options in (
        ({}, {"feature_loss": None}),
        ({"feature_loss": "usual"}, {"feature_loss": "usual"}),
    ):
        done = reproduce(settings(rows, data, tmp_path / "out", **asked), Told())
        found = {row.cell.row.partition("/")[2]: row.runs[0].config.options for row in done.rows}
        assert found["cfl-conv256"].get("feature_loss") == options["feature_loss"]
        assert found["cfl-conv256-printed"]["feature_loss"] == "printed"
        assert found["cfl-conv256-drawn"]["classifier_start"] == "drawn"
    for table in TABLES.values():
        for cell in table:
            assert set(cell.options) <= set(Budget.model_fields)
            plan_options = TrainOptions.of(Budget(), 0, cell.options)
            for name, value in cell.options.items():
                assert getattr(plan_options, name) == value
                assert RECIPES[cell.recipe].own(name) not in (None, value), cell.row


def test_chosen_reads_the_last_layer_or_the_prediction():
    assert chosen({}, "prediction") is None
    assert chosen({"classifier": 0.5}, "last layer") is None
    assert chosen({"layer 2": 0.4, "sum": 0.6}, "zero-shot") == 0.4


def test_a_row_without_runs_has_no_numbers():
    fields = Row("table1", TABLES["table1"][0]).fields()
    assert fields["error"] is None
    assert fields["seeds"] == 0


def test_the_commands_and_their_json(cifar, tmp_path):
    out = tmp_path / "run"
    args = ["--recipe", "cfl-conv256", "--data", cifar, "--out", out, *SMALL]
    result = cfl_edge("train", *args, "--json")
    assert result.code == 0, result.err
    events = [json.loads(line) for line in result.out.splitlines()]
    assert [e["event"] for e in events] == ["epoch", "summary"]
    summary = events[-1]
    assert summary["recipe"] == "cfl-conv256"
    assert set(summary["last_test"]) == {"layer 1", "layer 2", "sum", "classifier"}
    again = cfl_edge("train", *args)
    assert again.code == 0, again.err
    assert "is done" in again.err
    assert "classifier" in again.out
    table = cfl_edge(
        "reproduce", "table1", "--data", cifar, "--rows", "cifar10/bp-conv256", "--json",
        "--out", tmp_path / "out", *SMALL,
    )  # fmt: skip
    assert table.code == 0, table.err
    rows = [json.loads(line) for line in table.out.splitlines()]
    row = next(r for r in rows if r["event"] == "row")
    assert (row["row"], row["paper_error"], row["epochs"]) == ("cifar10/bp-conv256", 22.52, 1)


RUN = ("--recipe", "cfl-conv256", "--data", "{data}")


@pytest.mark.parametrize(
    ("args", "code", "problem"),
    [
        (["train", "--recipe", "cfl-conv265", "--data", "{data}"], 2, "--recipe cfl-conv256"),
        (["train", "--recipe", "cfl-conv256", "--data", "none.npz"], 4, "none.npz"),
        (["reproduce", "table9", "--data", "{data}"], 2, "table9"),
        (["reproduce", "figure11", "--data", "{data}"], 2, "'figure1', 'figure2'"),
        (["reproduce", "table1", "--data", "{data}", "--rows", "x/*"], 2, "names no row"),
        (["reproduce", "table1", "--data", "{data}", "--seeds", "0"], 2, "--seeds is '0'"),
        (["reproduce", "figure2", "--data", "{data}", "--images", "0"], 2, "--images is '0'"),
        (["train", *RUN, "--epochs", "0"], 2, "--epochs is '0'"),
        (["train", *RUN, "--learning-rate", "-1"], 2, "--learning-rate is '-1'"),
        (["train", *RUN, "--epochs-scale", "0"], 2, "--epochs-scale is '0'"),
    ],
)
def test_wrong_usage_is_one_line_and_a_hint(cifar, args, code, problem):
    result = cfl_edge(*(arg.replace("{data}", cifar) for arg in args))
    assert result.code == code, result.err
    assert problem in result.err
    assert "try: " in result.err
    assert "Traceback" not in result.err


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(cifar, tmp_path):
    command_line = [sys.executable, "-m", "cfl_edge", "train", "--recipe", "cfl-conv256"]
    command_line += ["--data", cifar, "--epochs", "100000", "--out", str(tmp_path / "run")]
    with subprocess.Popen(command_line, stderr=subprocess.PIPE, text=True) as process:
        next(line for line in process.stderr if "epoch 1/" in line)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "the same command again to resume from" in rest
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()
