"""Contrastive Forward Learning with label embeddings: the paper's own system (CFL)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cfl_edge.core.closed_form import finish
from cfl_edge.core.embeddings import visible_to_layer
from cfl_edge.core.local_step import LocalTraining
from cfl_edge.core.losses import LocalLoss
from cfl_edge.core.networks import build_network
from cfl_edge.core.training import layer_slices
from cfl_edge.lab.optimizers import apply_gradients
from cfl_edge.lab.rules.closed_form_readout import ClosedFormReadout
from cfl_edge.lab.rules.labelled_network import LabelledNetwork
from cfl_edge.lab.rules.rule import GatheringRule, RuleOptions

EmbeddingsLearn = Literal["last", "all", "never"]
ClosedForm = Literal["last", "all"]
TOTAL_B = LocalLoss(batch_weight=1.0, dict_weight=0.0, feat_weight=1.0)
TOTAL_D = LocalLoss(batch_weight=0.0, dict_weight=1.0, feat_weight=1.0)


@dataclass(frozen=True, kw_only=True)
class ContrastiveOptions(RuleOptions):
    """The options of `ContrastiveForward`, and those of every rule.

    Args:
        network: As `build_network` has it.
        loss: Eq. 10, with the weights of L_total-B or L_total-D.
        noise: Whether label embeddings get epsilon (Eq. 2 and 5).
        embeddings: Where D learns: at the `last` layer (Eq. 3), at `all` of them with an optimizer
            state each (Dictionary Contrastive Learning, ICLR 2024), or `never`.
        classifier: Whether there is an f^L, which learns from the features of the last layer and
            changes nothing else.
        classifier_starts_at_embeddings: Whether f^L starts as the scores of Eq. 1, or as torch
            draws it.
        closed_form: Whose features have a readout in closed form as well: label embeddings from the
            class statistics that `gather` took in (`ClosedFormReadout`); of the `last` layer or of
            `all` together. None for none.
        predict: The readout that is the prediction; by default the one in closed form, or else
            f^L, or else the last layer.
        positions: K of the fully connected layers, instead of Table 4's.
        grid: As in `LocalLayer`.
        learning_rate: Of all layers (Table 5, batch 512).
        classifier_rate: Learning rate of f^L in multiples of `learning_rate`.
        weight_decay: AdamW's default in torch, as in the published code.
    """

    network: str = "conv256"
    loss: LocalLoss = TOTAL_D
    noise: bool = True
    embeddings: EmbeddingsLearn = "last"
    classifier: bool = True
    classifier_starts_at_embeddings: bool = True
    closed_form: ClosedForm | None = None
    predict: str | None = None
    positions: int | None = None
    grid: int = 1
    learning_rate: float = 7.5e-3
    classifier_rate: float = 1.0
    weight_decay: float = 0.01


DEFAULTS = ContrastiveOptions()


class ContrastiveForward(GatheringRule):
    """CFL: every layer steps on its own loss right after its forward pass.

    Args:
        input_shape: (C, H, W).
        classes: Z.
        options: Network, loss, where embeddings learn, what predicts.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> rule = ContrastiveForward((3, 16, 16), classes=2)
        >>> x, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 0, 1])
        >>> list(rule.learn(x, labels))
        ['layer 1', 'layer 2', 'classifier']
        >>> rule.predict(x).shape
        torch.Size([4])
    """

    Options = ContrastiveOptions

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        classes: int,
        options: ContrastiveOptions = DEFAULTS,
    ) -> None:
        super().__init__(classes)
        self.options = options
        network = build_network(
            options.network, input_shape, positions=options.positions, grid=options.grid
        )
        self.model = LabelledNetwork(network, input_shape, classes, classifier=options.classifier)
        if options.classifier_starts_at_embeddings:
            self.model.start_classifier_at_embeddings()
        self.closed_form: ClosedFormReadout | None = None
        if options.closed_form is not None:
            channels = network.channels
            read = sum(channels) if options.closed_form == "all" else channels[-1]
            self.closed_form = ClosedFormReadout(classes, read)
        self.loss = options.loss
        rows = self.model.rows()
        rows.requires_grad_(options.embeddings != "never")
        layers = self.model.layers
        for i, layer in enumerate(layers):
            parameters = list(layer.parameters())
            is_last = i == len(layers) - 1
            if options.embeddings == "all" or (options.embeddings == "last" and is_last):
                parameters.append(rows)
            self.optimizers.append(options.build(parameters))
        if self.model.classifier is not None:
            parameters = list(self.model.classifier.parameters())
            self.optimizers.append(options.build(parameters, options.classifier_rate))

    def update(self, x: Tensor, labels: Tensor) -> dict[str, float]:
        """Update each layer, then f^L."""
        losses = {}
        layers, rows = self.model.layers, self.model.rows()
        generator = global_generator(x.device) if self.options.noise else None
        learn_everywhere = self.options.embeddings == "all"
        how = LocalTraining(self.loss, generator=generator)
        h = x
        for i, (layer, optimizer) in enumerate(zip(layers, self.optimizers, strict=False)):
            d_l = rows if learn_everywhere else visible_to_layer(rows, i, len(layers))
            h, _, value = finish(layer_slices(layer, h, labels, d_l, how))
            apply_gradients(optimizer)
            losses[f"layer {i + 1}"] = float(value)
        if self.model.classifier is not None:
            losses["classifier"] = self._classifier_step(h, labels)
        return losses

    @torch.no_grad()
    def gather(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Solve the closed-form readout again, from the features as they are now."""
        if self.closed_form is None:
            return
        self.eval()
        self.closed_form.clear()
        for x, labels in batches:
            _, pooled = self.model.scores_and_features(x, self.loss)
            self.closed_form.update(self._read(self.closed_form, pooled), labels)

    @staticmethod
    def _read(readout: ClosedFormReadout, pooled: Tensor) -> Tensor:
        return pooled[:, -readout.means.shape[1] :]  # the last layer's stand last

    @torch.enable_grad()
    def _classifier_step(self, h: Tensor, labels: Tensor) -> float:
        value = F.cross_entropy(self.model.logits(h), labels)
        value.backward()  # type: ignore[no-untyped-call]
        apply_gradients(self.optimizers[-1])
        return float(value.detach())

    def readouts(self, x: Tensor) -> dict[str, Tensor]:
        """Score by Eq. 1 at each layer, by their sum, and by f^L."""
        scores, pooled = self.model.scores_and_features(x, self.loss)
        chosen = f"layer {len(self.model.layers)}"
        if "classifier" in scores:
            chosen = "classifier"
        if self.closed_form is not None:
            chosen = "closed form"
            scores[chosen] = self.closed_form.scores(self._read(self.closed_form, pooled))
        chosen = self.options.predict or chosen
        scores[chosen] = scores.pop(chosen)  # the last one is the prediction
        return scores


def global_generator(device: torch.device) -> torch.Generator:
    """Return torch's own generator of a device."""
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0]
    return torch.default_generator
