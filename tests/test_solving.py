"""Linear systems are solved in a precision in which this machine is right."""

import logging

import pytest
import torch

from cfl_edge.core.class_statistics import ClassStatistics
from cfl_edge.core.factor import label_embeddings
from cfl_edge.core.solving import solving_dtype

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _look_anew():
    solving_dtype.cache_clear()
    yield
    solving_dtype.cache_clear()


def wrong_factor(matrix):
    """What a broken kernel returns: a factor that is off, without a word."""
    factor, failed = RIGHT(matrix)
    return factor * 1.1 if matrix.dtype == torch.float32 else factor, failed


def failing_factor(matrix):
    factor, failed = RIGHT(matrix)
    return factor, failed + 3 * (matrix.dtype == torch.float32)


RIGHT = torch.linalg.cholesky_ex


def test_float32_where_it_is_right(caplog):
    assert solving_dtype(CPU) == torch.float32
    assert caplog.records == []


@pytest.mark.parametrize("broken", [wrong_factor, failing_factor])
def test_float64_where_float32_is_wrong_and_it_is_said_once(monkeypatch, caplog, broken):
    monkeypatch.setattr(torch.linalg, "cholesky_ex", broken)
    with caplog.at_level(logging.WARNING):
        assert solving_dtype(CPU) == torch.float64
        assert solving_dtype(CPU) == torch.float64
    assert len(caplog.records) == 1
    assert "float64 is used" in caplog.text


def embeddings_of(x, labels):
    statistics = ClassStatistics(x.shape[1], classes=4)  # the last one has no samples
    statistics.update(x, labels)
    return label_embeddings(statistics)


def test_embeddings_are_the_same_in_either_precision(monkeypatch):
    labels = torch.arange(300) % 3
    x = torch.randn(300, 40, generator=torch.Generator().manual_seed(1)) + labels[:, None]
    wanted = embeddings_of(x, labels)
    monkeypatch.setattr(torch.linalg, "cholesky_ex", failing_factor)
    solving_dtype.cache_clear()
    found = embeddings_of(x, labels)
    assert solving_dtype(CPU) == torch.float64
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
