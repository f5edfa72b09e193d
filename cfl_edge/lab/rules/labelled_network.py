"""What CFL and backpropagation share: the layers of Table 4, the classifier f^L, embeddings D."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cfl_edge.core.embeddings import average_pool
from cfl_edge.core.layers import LocalLayer
from cfl_edge.core.losses import LocalLoss
from cfl_edge.core.networks import Network, build_network
from cfl_edge.errors import UsageError
from cfl_edge.lab.rules.rule import RuleOptions

# Of D's initial numbers. The paper does not say; the published code draws from N(0, 1).
EMBEDDING_SCALE = 1.0
# H+ of Eq. 9 as the other samples of the class (DECISIONS.md, "The feature loss as printed").
TOTAL_B = LocalLoss(batch_weight=1.0, dict_weight=0.0, feat_weight=1.0, feat_form="no_self")
TOTAL_D = LocalLoss(batch_weight=0.0, dict_weight=1.0, feat_weight=1.0, feat_form="no_self")


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(RuleOptions):
    """The options of every rule that trains the layers of Table 4.

    Args:
        network: As `build_network` has it.
        positions: K of the fully connected layers, instead of Table 4's.
        grid: As in `LocalLayer`.
        learning_rate: Of all layers (Table 5, convolutions, batch 512).
        weight_decay: AdamW's default in torch, as in the published code.
    """

    network: str = "conv256"
    positions: int | None = None
    grid: int = 1
    learning_rate: float = 7.5e-3
    weight_decay: float = 0.01

    def build_network(self, input_shape: Sequence[int]) -> Network:
        """Build the layers for images of (C, H, W)."""
        return build_network(self.network, input_shape, positions=self.positions, grid=self.grid)


@dataclass(frozen=True, kw_only=True)
class LocalLossOptions(NetworkOptions):
    """The options of the rules that have the paper's losses, and those of `NetworkOptions`.

    Args:
        loss: Eq. 10, with the weights of L_total-B or L_total-D.
        noise: Whether label embeddings get epsilon (Eq. 2 and 5).
        classifier_starts_at_embeddings: Whether an f^L beside D starts as the scores of Eq. 1, or
            as torch draws it.
    """

    loss: LocalLoss = TOTAL_D
    noise: bool = True
    classifier_starts_at_embeddings: bool = True

    def generator(self, device: torch.device) -> torch.Generator | None:
        """Return the source of the noise, torch's own generator of a device; None for no noise."""
        if not self.noise:
            return None
        if device.type == "cuda":
            return torch.cuda.default_generators[device.index or 0]
        return torch.default_generator


class LabelledNetwork(nn.Module):
    """Layers, label embeddings and a linear classifier, and the scores at each of them.

    Args:
        network: The layers.
        input_shape: (C, H, W).
        classes: Z.
        classifier: Whether there is an f^L.
        embeddings: Whether there is a D.

    Example:
        >>> from cfl_edge.core.networks import build_network
        >>> shape = (3, 16, 16)
        >>> model = LabelledNetwork(build_network("conv256", shape), shape, classes=10)
        >>> scores, _ = model.scores_and_features(torch.zeros(2, 3, 16, 16), LocalLoss())
        >>> {name: tuple(values.shape) for name, values in scores.items()}
        {'layer 1': (2, 10), 'layer 2': (2, 10), 'sum': (2, 10), 'classifier': (2, 10)}
    """

    def __init__(
        self,
        network: Network,
        input_shape: Sequence[int],
        classes: int,
        *,
        classifier: bool = True,
        embeddings: bool = True,
    ) -> None:
        super().__init__()
        self.network = network
        channels = max(self.network.channels)
        self.embeddings: nn.Parameter | None = None
        if embeddings:
            self.embeddings = nn.Parameter(torch.randn(classes, channels) * EMBEDDING_SCALE)
        self.classifier: nn.Linear | None = None
        if classifier:
            last = torch.empty(1, *output_shapes(self.network, input_shape)[-1])
            self.classifier = nn.Linear(_classifier_features(last).shape[1], classes)

    @property
    def layers(self) -> list[LocalLayer]:
        """From the input on."""
        return list(self.network)

    def forward(self, x: Tensor) -> Tensor:
        """Return the classifier's scores (N, Z) for normalised images (N, C, H, W)."""
        for layer in self.layers:
            x = layer(x)
        return self.logits(x)

    def rows(self) -> nn.Parameter:
        """Return D, (Z, C_D), of a network that has it."""
        assert self.embeddings is not None
        return self.embeddings

    def logits(self, h: Tensor) -> Tensor:
        """Return the scores (N, Z) of the classifier for the features h of the last layer."""
        assert self.classifier is not None
        scores: Tensor = self.classifier(_classifier_features(h))
        return scores

    @torch.no_grad()
    def start_classifier_at_embeddings(self) -> None:
        """Let f^L score as the last layer does by Eq. 1, to be refined from there.

        The layers fit their features to D from the first step on: an f^L that starts elsewhere runs
        after features that move away from it (DECISIONS.md, "Initialisation of f^L").
        """
        if self.classifier is None:
            return
        channels = self.network.channels[-1] // self.layers[-1].grid ** 2
        positions = self.classifier.in_features // channels  # K of a fully connected layer, or 1
        rows = average_pool(self.rows(), channels) / positions
        self.classifier.weight.copy_(rows.repeat_interleave(positions, dim=1))
        self.classifier.bias.zero_()

    def scores_and_features(
        self, x: Tensor, loss: LocalLoss, embeddings: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Score the classes at every layer by Eq. 1, summed over the layers, and by f^L.

        Args:
            x: Normalised images, (N, C, H, W).
            loss: Says which similarity is meant.
            embeddings: Rows to compare with instead of D; the classifier is left out then.

        Returns:
            `layer 1`, …, `sum`, and `classifier` where there is one, each (N, Z); and the pooled
            features of all layers, (N, C_1 + C_2 + …).
        """
        rows = self.embeddings if embeddings is None else embeddings
        scores: dict[str, Tensor] = {}
        h, pooled = x, []
        for number, layer in enumerate(self.layers, 1):
            h = layer(h)
            pooled.append(layer.pool(h))
            if rows is not None:
                scores[f"layer {number}"] = loss.scores(pooled[-1], rows)
        if rows is not None:
            scores["sum"] = torch.stack(list(scores.values())).sum(dim=0)
        if self.classifier is not None and embeddings is None:
            scores["classifier"] = self.logits(h)
        return scores, torch.cat(pooled, dim=1)


def _classifier_features(h: Tensor) -> Tensor:
    """Return what f^L reads of (N, C, H, W) or (N, K, C): means; of (N, C * K) all."""
    if h.ndim == 4:
        return h.mean(dim=(2, 3))
    return h.mean(dim=1) if h.ndim == 3 else h


@torch.no_grad()
def output_shapes(network: Network, input_shape: Sequence[int]) -> list[torch.Size]:
    """Return the shape of one sample at the output of each layer."""
    h, shapes = torch.zeros(1, *input_shape), []
    network.eval()  # an image of zeros is not to enter the batch statistics
    for layer in network:
        h = layer(h)
        shapes.append(h.shape[1:])
    network.train()
    return shapes


def labelled_network_of(rule: nn.Module) -> LabelledNetwork | None:
    """Return the network of a rule that trains the layers of Table 4, None for another rule."""
    model = getattr(rule, "model", None)
    return model if isinstance(model, LabelledNetwork) else None


def network_for_figure(
    rule: nn.Module, purpose: str, *, embeddings: bool = True
) -> LabelledNetwork:
    """Return the network of a rule whose layers or label embeddings a figure shows.

    Args:
        rule: Any rule.
        purpose: The beginning of the error's sentence, such as "attention maps need".
        embeddings: Whether it must have label embeddings, besides the layers of Table 4.

    Raises:
        UsageError: It has none.
    """
    model = labelled_network_of(rule)
    if model is None or (embeddings and model.embeddings is None):
        lacking = "label embeddings" if embeddings else "the layers of Table 4"
        raise UsageError(
            f"{purpose} {lacking}, which this recipe does not have", hint="--recipe cfl-conv512"
        )
    return model
