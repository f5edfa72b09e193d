"""Backpropagation through the blocks of the backbone: what adapting it end to end would give.

`bp-deep`: all blocks after the third and a linear classifier on their pooled end, trained with
plain SGD on new and replayed images, block by block with what lies within recomputed
(`cfl_edge.lab.recomputed`). Replay stores JPEGs: an image of 96 px takes 2 to 4 KB, less than the
features after the third block, and it stays valid while the blocks move.

Statistics of BatchNorm stay those of pretraining, which are folded into the convolutions: a step
sees few classes at a time, whose statistics are not those of the frames to come, a single frame has
none, and a recomputed block would count every batch twice. Without a backbone all layers are
trained, in the form that they have for predictions.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Generator, Sequence
from typing import final

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cfl_edge.core.backbones import CutNetwork, build_backbone
from cfl_edge.core.class_statistics import silenced, with_constant
from cfl_edge.core.efficientnet_lite import as_network
from cfl_edge.core.features import Encoded
from cfl_edge.core.networks import Network
from cfl_edge.core.optimizers import Optimizer
from cfl_edge.defaults import BACKBONE
from cfl_edge.errors import UsageError
from cfl_edge.lab.learners.gradient import classifier_loss
from cfl_edge.lab.learners.stepping import SteppingAlgorithm
from cfl_edge.lab.recomputed import recomputed_step
from cfl_edge.learner.algorithms.algorithm import AlgorithmInputs
from cfl_edge.learner.replay import Replay
from cfl_edge.learner.state import Rows
from cfl_edge.learner.trainer import Trainer, mirror

BACKBONES = ("none", BACKBONE)  # whose blocks it knows
FROZEN = 4  # modules of the backbone: stem and three blocks
LEARNING_RATE = 3e-3  # of the backbone's blocks (DECISIONS.md, "Rate of bp-deep")
RATE_FROM_SCRATCH = 0.3  # of layers that were drawn at random: two easy classes within 15 steps
QUALITIES = (90, 75, 50, 25, 10, 1)  # of a JPEG: the first with which it fits
HEADER_BYTES, BYTES_A_PIXEL = 1024, 0.4  # of a stored JPEG at most: 4.7 KB with 96 px


def jpeg_bytes(image_px: int) -> int:
    """Return the bytes that a stored image of this side has room for.

    Example:
        >>> jpeg_bytes(96)
        4710
    """
    return HEADER_BYTES + int(BYTES_A_PIXEL * image_px**2)


def to_jpegs(images: Tensor) -> Tensor:
    """Return images as JPEGs of quality 90, or of less where they would not fit.

    Args:
        images: uint8 (N, P, P, 3).

    Returns:
        uint8 (N, `jpeg_bytes`), zeros behind the end.

    Example:
        >>> to_jpegs(torch.zeros(2, 32, 32, 3, dtype=torch.uint8)).shape
        torch.Size([2, 1433])
    """
    size = jpeg_bytes(images.shape[1])
    encoded = []
    for image in images.cpu().numpy():
        for quality in QUALITIES:
            file = io.BytesIO()
            Image.fromarray(image).save(file, "JPEG", quality=quality)
            if file.tell() <= size:
                break
        encoded.append(np.frombuffer(file.getvalue().ljust(size, b"\0"), np.uint8))
    return torch.from_numpy(np.stack(encoded)) if encoded else torch.zeros(0, size).byte()


def from_jpegs(jpegs: Tensor) -> Tensor:
    """Return what `to_jpegs` encoded, uint8 (N, P, P, 3)."""
    files = (io.BytesIO(each.tobytes()) for each in jpegs.cpu().numpy())
    return torch.from_numpy(np.stack([np.asarray(Image.open(file)) for file in files]))


@final
class DeepBackpropagation(SteppingAlgorithm):
    """A copy of the backbone's blocks learns; the backbone itself stays as it is.

    Args:
        inputs: What it is built on.

    Raises:
        UsageError: The backbone has no blocks that it knows, or not even two samples fit into
            `replay_mib`.
    """

    def __init__(self, inputs: AlgorithmInputs) -> None:
        super().__init__(inputs)
        config = self.config
        if config.backbone not in BACKBONES:
            raise UsageError(
                f"--learner {config.learner} trains the blocks of --backbone {BACKBONE}, "
                f"--backbone is {config.backbone}",
                hint=f"--backbone {BACKBONE}, or --learner bp-replay",
            )
        # In torch, where blocks can learn: the learner's own may be in ONNX Runtime.
        self.backbone = build_backbone(config.backbone, config.statistics_mib).to(self.device)
        self.frozen, self.network = _blocks(inputs, self.backbone.network)
        self.replay = Replay(
            (jpeg_bytes(config.resolved_image_px()),),
            limit_mib=config.replay_mib,
            generator=inputs.generator,
            device=self.device,
            bits=8,  # a JPEG has bytes 0 and 255, so that its range has steps of exactly 1
        )
        self.trainer = Trainer(self.network, config, self.replay, inputs.generator, self)
        channels = self.network.channels[-1]
        self.rows = nn.Parameter(torch.zeros(0, channels + 1, device=self.device))  # (Z, C + 1)
        from_scratch = self.network is inputs.network
        rate = RATE_FROM_SCRATCH if from_scratch else LEARNING_RATE
        self.optimizers = [
            Optimizer("sgd", layer.parameters(), config.learning_rate or rate)
            for layer in self.network
        ]
        self.optimizers[-1].add(self.rows)
        self.state.rows("classifier", self, "rows", Rows())
        if not from_scratch:  # the learner stores its own network
            for name, module in self.network.named_modules():
                for key, _ in module.named_parameters(recurse=False):
                    self.state.value(f"blocks.{name}.{key}", module, key)
        self.trainer.declare(self.state)

    @property
    def readout(self) -> None:
        """None: the features that it reads are its own."""
        return

    def pack(self, encoded: Encoded) -> Tensor:
        """Return the images as JPEGs, (N, bytes)."""
        return to_jpegs(encoded.images)

    def slices(
        self, samples: Tensor, targets: Tensor, mirrored: Tensor
    ) -> Generator[int | None, None, None]:
        """Take a step, without a pause."""
        images = from_jpegs(samples.to(torch.uint8)).to(self.device)
        self._step(self.network, self.optimizers, self._read(images, mirrored), targets)
        yield from ()

    @torch.no_grad()
    def _read(self, images: Tensor, mirrored: Tensor | None = None) -> Tensor:
        """Return what the first block that learns reads of images (N, P, P, 3)."""
        x = self.backbone.scaled(images)
        h: Tensor = self.frozen(x if mirrored is None else mirror(x, mirrored))
        return h

    def _step(
        self, network: Network, optimizers: Sequence[Optimizer], x: Tensor, targets: Tensor
    ) -> None:
        layers, rows = list(network.eval()), silenced(self.rows, self.known())

        def loss(h: Tensor) -> Tensor:
            return classifier_loss(layers[-1].pool(h), rows, targets)

        recomputed_step(layers, x, loss, lambda i: optimizers[i].step())

    def recalibrate(self, *, whole: bool = True) -> None:
        """Take the pending step."""
        self.work(all_pending=True)

    def scores(self, encoded: Encoded) -> Tensor:
        """Return the classifier's logits, (N, Z)."""
        h = self._read(encoded.images)
        for layer in self.network:
            h = layer(h)
        rows = silenced(self.rows.detach(), self.known())
        return with_constant(layer.pool(h)) @ rows.T

    def distances(self, encoded: Encoded) -> Tensor:
        """Return minus the largest logit, (N,)."""
        return -self.scores(encoded).amax(dim=1)

    def distance_rows(self) -> None:
        """Return None: the features that it reads are its own."""
        return

    def warm_up(self) -> None:
        """Encode a blank image, and take a step on a copy that nothing is learned from."""
        px = self.config.resolved_image_px()
        images = torch.zeros(2, px, px, 3, dtype=torch.uint8)
        x = self._read(from_jpegs(to_jpegs(images)).to(self.device))
        network = copy.deepcopy(self.network).eval()
        layers = list(network)
        recomputed_step(layers, x, lambda h: layers[-1].pool(h).sum(), lambda _: None)

    def loaded(self, *, changed: bool) -> None:
        """Do nothing: all that it needs is stored."""


def _blocks(inputs: AlgorithmInputs, network: object) -> tuple[nn.Module, Network]:
    """Return what stays as it is of the backbone's network, and what learns."""
    if not isinstance(network, CutNetwork):
        return nn.Identity(), inputs.network
    learning = as_network(copy.deepcopy(network.sequence[FROZEN:]))
    return network.sequence[:FROZEN], learning.requires_grad_().to(inputs.device)
