"""Images as the backbone leaves them, computed once for all learners and seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from cfl_edge.core.backbones import Backbone
from cfl_edge.preprocess import to_model_input

CACHE_BYTES = 2**30  # beyond it the backbone runs again for each learner: the board has to go on
BATCH = 32  # images that pass the backbone together


@dataclass(frozen=True, eq=False)
class BackboneOutputs:
    """What `Learner.encode_backbone` reads.

    Args:
        images: uint8 (N, P, P, 3).
        h0: The backbone's output, (N, C, H, W).
        final: Its pooled end, (N, C_E); None without one.
    """

    images: Tensor
    h0: Tensor
    final: Tensor | None

    def bytes_each(self) -> int:
        """Return the bytes of one image."""
        tensors = [self.images, self.h0] + ([] if self.final is None else [self.final])
        return sum(tensor[0].numel() * tensor.element_size() for tensor in tensors)


@final
class Images:
    """The images of one split, at the size the backbone reads, and what the backbone makes of them.

    `fill` computes ahead and keeps what was computed, as long as a share of `CACHE_BYTES` holds all
    of it; otherwise each `get` computes anew.

    Args:
        x: uint8 (N, C, H, W), one channel or three.
        backbone: The frozen backbone.
        image_px: Side of the images that the backbone reads.
        device: Where results live.
        cache_bytes: What may be kept.
    """

    def __init__(
        self,
        x: Tensor,
        backbone: Backbone,
        image_px: int,
        device: str,
        *,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._x, self._backbone = x, backbone
        self._image_px, self._device = image_px, device
        self._cache_bytes = cache_bytes
        self._kept: dict[int, BackboneOutputs] = {}

    def fill(
        self, places: Sequence[int], on_done: Callable[[int, int], None] = lambda *_: None
    ) -> None:
        """Compute ahead what will be asked for, in batches; nothing where it cannot all be kept.

        Args:
            places: Numbers of images.
            on_done: Called with the number of images done and to do.
        """
        missing = [place for place in dict.fromkeys(places) if place not in self._kept]
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            outputs = self._compute(part)
            each, kept = outputs.bytes_each(), len(self._kept) + len(missing) - start
            if each * kept > self._cache_bytes:
                return
            for i, place in enumerate(part):
                one = slice(i, i + 1)
                final = None if outputs.final is None else outputs.final[one].clone()
                # Clones: a part of a batch would keep the whole of it alive.
                self._kept[place] = BackboneOutputs(
                    outputs.images[one].clone(), outputs.h0[one].clone(), final
                )
            on_done(start + len(part), len(missing))

    def get(self, places: Sequence[int]) -> BackboneOutputs:
        """Return the backbone's outputs for some images, N numbers."""
        if any(place not in self._kept for place in places):
            return self._compute(places)
        found = [self._kept[place] for place in places]
        if len(found) == 1:
            return found[0]
        finals = [one.final for one in found if one.final is not None]
        return BackboneOutputs(
            torch.cat([one.images for one in found]),
            torch.cat([one.h0 for one in found]),
            torch.cat(finals) if finals else None,
        )

    def images(self, places: Sequence[int]) -> Tensor:
        """Return the images that the backbone reads, uint8 (N, P, P, 3)."""
        pictures = self._x[torch.tensor(list(places), dtype=torch.long)].permute(0, 2, 3, 1)
        colour = pictures.expand(-1, -1, -1, 3).numpy()
        scaled = [to_model_input(image, self._image_px) for image in colour]
        return torch.from_numpy(np.stack(scaled)).to(self._device)

    @torch.inference_mode()
    def _compute(self, places: Sequence[int]) -> BackboneOutputs:
        images = self.images(places)
        h0, final = self._backbone(images)
        return BackboneOutputs(images, h0, final)
