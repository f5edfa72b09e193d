"""Fully connected layers that learn from goodness: what FF and SymBa have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from cfl_edge.errors import UsageError
from cfl_edge.lab.rules.goodness import goodness, normalise_length

GoodnessLoss = Callable[[Tensor, Tensor], Tensor]  # goodness of positives and negatives, to (N,)


class GoodnessLayers(nn.Module):
    """Layers that take the length of their input away, multiply and rectify.

    Args:
        features_in: Length of a flattened image with its label.
        widths: Units of each layer, at least one layer.

    Raises:
        UsageError: No layer, or one without units.
    """

    def __init__(self, features_in: int, widths: Sequence[int]) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise UsageError(
                f"widths are {list(widths)}, expected one or more, each 1 or larger",
                hint="widths=(1024, 1024)",
            )
        sizes = [features_in, *widths]
        self.layers = nn.ModuleList(
            nn.Linear(width_in, width) for width_in, width in zip(sizes, widths, strict=False)
        )

    def activities(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Return h of a layer, (N, C), from what the one before hands on, (N, C_in)."""
        h: Tensor = layer(normalise_length(x)).relu_()
        return h

    def update(
        self,
        positive: Tensor,
        negative: Tensor,
        loss: GoodnessLoss,
        optimizers: Sequence[torch.optim.Optimizer],
    ) -> dict[str, float]:
        """Update every layer from its own goodness, right after its forward pass.

        The next layer reads the activities from before the update; no gradient reaches them.

        Args:
            positive: Images with their true labels, (N, features_in).
            negative: With wrong ones, (N, features_in).
            loss: Its mean over the batch is minimised.
            optimizers: One of each layer.

        Returns:
            The loss of each layer before its update: `layer 1`, `layer 2`, ...
        """
        count = len(positive)
        x = torch.cat([positive, negative])  # (2N, features_in)
        losses = {}
        for number, (layer, optimizer) in enumerate(zip(self.layers, optimizers, strict=True), 1):
            h = self.activities(layer, x)  # (2N, C)
            g = goodness(h)
            value = loss(g[:count], g[count:]).mean()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses[f"layer {number}"] = float(value.detach())
            x = h.detach()
        return losses

    def scores(self, with_label: Callable[[int], Tensor], classes: int) -> dict[str, Tensor]:
        """Score each class by one forward pass with its label.

        Args:
            with_label: Makes all images with the label of this number, (N, features_in).
            classes: Z: so many passes, one after the other.

        Returns:
            The goodness of each layer, `layer 1`, ..., and their `sum`: of three or more layers
            without the first, as Hinton (2022, section 3.3) does with four; each (N, Z).
        """
        columns: list[list[Tensor]] = [[] for _ in self.layers]
        for label in range(classes):
            x = with_label(label)
            for layer, column in zip(self.layers, columns, strict=True):
                x = self.activities(layer, x)
                column.append(goodness(x))
        scores = [torch.stack(column, dim=1) for column in columns]  # (N, Z) each
        named = {f"layer {number}": score for number, score in enumerate(scores, 1)}
        summed = scores[1:] if len(scores) > 2 else scores
        return {**named, "sum": torch.stack(summed).sum(dim=0)}
