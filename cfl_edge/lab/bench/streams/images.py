"""Images and what the backbone makes of them, computed once for all learners and seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from cfl_edge.core.features import FrozenNetwork
from cfl_edge.frame.preprocess import to_model_input

CACHE_BYTES = 2**30  # beyond it the backbone runs for each learner: a board has no more to spare
BATCH = 32  # images that pass the backbone together


class BackboneOutputs(NamedTuple):
    """What `Learner.encode_backbone` reads.

    Args:
        images: uint8 (N, P, P, 3).
        h0: The backbone's intermediate features, (N, C, H, W).
        final: Its pooled features, (N, C_E); None without a backbone.
    """

    images: Tensor
    h0: Tensor
    final: Tensor | None

    def bytes_each(self) -> int:
        """Return the bytes of one image."""
        return sum(t[0].numel() * t.element_size() for t in self if t is not None)

    def one(self, i: int) -> BackboneOutputs:
        """Return a copy of the i-th image; a view would hold on to the memory of all."""
        final = None if self.final is None else self.final[i : i + 1].clone()
        return BackboneOutputs(self.images[i : i + 1].clone(), self.h0[i : i + 1].clone(), final)


@final
class Images:
    """The images of one split at the size that the backbone reads, and the backbone's outputs.

    `fill` computes ahead and stores the outputs if `cache_bytes` hold all of them; otherwise each
    `get` runs the backbone.

    Args:
        x: uint8 (N, C, H, W), one channel or three.
        backbone: The frozen backbone.
        image_px: Side of the images that the backbone reads.
        device: Where results live.
        cache_bytes: Memory for stored outputs.
    """

    def __init__(
        self,
        x: Tensor,
        backbone: FrozenNetwork,
        image_px: int,
        device: str,
        *,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._x, self._backbone = x, backbone
        self._image_px, self._device = image_px, device
        self._cache_bytes = cache_bytes
        self._stored: dict[int, BackboneOutputs] = {}

    def fill(
        self, places: Sequence[int], on_done: Callable[[int, int], None] = lambda *_: None
    ) -> None:
        """Compute ahead what will be asked for, in batches; nothing where it would not all fit.

        Args:
            places: Indices of images.
            on_done: Called with the number of images done, and the total.
        """
        missing = [place for place in dict.fromkeys(places) if place not in self._stored]
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            outputs = self._compute(part)
            count = len(self._stored) + len(missing) - start
            if outputs.bytes_each() * count > self._cache_bytes:
                return
            self._stored |= {place: outputs.one(i) for i, place in enumerate(part)}
            on_done(start + len(part), len(missing))

    def get(self, places: Sequence[int]) -> BackboneOutputs:
        """Return the backbone's outputs for some images, N indices."""
        if any(place not in self._stored for place in places):
            return self._compute(places)
        if len(places) == 1:
            return self._stored[places[0]]
        images, h0, final = zip(*(self._stored[place] for place in places), strict=True)
        has_final = final[0] is not None
        return BackboneOutputs(
            torch.cat(images), torch.cat(h0), torch.cat(final) if has_final else None
        )

    def images(self, places: Sequence[int]) -> Tensor:
        """Return the images that the backbone reads, uint8 (N, P, P, 3)."""
        images = self._x[torch.tensor(list(places), dtype=torch.long)].permute(0, 2, 3, 1)
        colour = images.expand(-1, -1, -1, 3).numpy()
        scaled = [to_model_input(image, self._image_px) for image in colour]
        return torch.from_numpy(np.stack(scaled)).to(self._device)

    @torch.inference_mode()
    def _compute(self, places: Sequence[int]) -> BackboneOutputs:
        images = self.images(places)
        return BackboneOutputs(images, *self._backbone(images))
