"""Contrastive Forward Learning with label embeddings: the paper's own system (CFL)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cfl_edge.core.class_statistics import ClassStatistics, with_constant
from cfl_edge.core.closed_form import finish
from cfl_edge.core.embeddings import visible_to_layer
from cfl_edge.core.factor import label_embeddings
from cfl_edge.core.local_step import LocalTraining
from cfl_edge.core.training import layer_slices
from cfl_edge.lab.rules.labelled_network import LabelledNetwork, LocalLossOptions
from cfl_edge.lab.rules.rule import GatheringRule

EmbeddingsLearn = Literal["last", "all", "never"]
ClosedForm = Literal["last", "all"]


@dataclass(frozen=True, kw_only=True)
class ContrastiveOptions(LocalLossOptions):
    """The options of `ContrastiveForward`, and those of `LocalLossOptions`.

    Args:
        embeddings: Where D learns: at the `last` layer (Eq. 3), at `all` of them with an optimizer
            state each (Dictionary Contrastive Learning, ICLR 2024), or `never`.
        classifier: Whether there is an f^L, which learns from the features of the last layer and
            changes nothing else.
        closed_form: Whose features have a readout in closed form as well: label embeddings from the
            class statistics that `gather` takes in; of the `last` layer or of `all` together. None
            for none. The layers' loss needs embeddings that stand still, a prediction wants those
            that fit the features as they have become.
        predict: The readout that is the prediction; by default the one in closed form, or else
            f^L, or else the last layer.
    """

    embeddings: EmbeddingsLearn = "last"
    classifier: bool = True
    closed_form: ClosedForm | None = None
    predict: str | None = None


class ContrastiveForward(GatheringRule[ContrastiveOptions]):
    """CFL: every layer steps on its own loss right after its forward pass.

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

    def build(self) -> None:
        """Build the network, D, f^L and an optimizer of each layer."""
        options, shape, classes = self.options, self.input_shape, self.classes
        network = options.build_network(shape)
        self.model = LabelledNetwork(network, shape, classes, classifier=options.classifier)
        if options.classifier_starts_at_embeddings:
            self.model.start_classifier_at_embeddings()
        if options.closed_form is not None:
            channels = network.channels
            read = sum(channels) if options.closed_form == "all" else channels[-1]
            self.register_buffer("closed_form", torch.zeros(classes, read + 1))
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
            self.optimizers.append(options.build(self.model.classifier.parameters()))

    def update(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Update each layer, then f^L."""
        losses = {}
        layers, rows = self.model.layers, self.model.rows()
        generator = self.options.generator(x.device)
        learn_everywhere = self.options.embeddings == "all"
        how = LocalTraining(self.loss, generator=generator)
        h = x
        for i, (layer, optimizer) in enumerate(zip(layers, self.optimizers, strict=False)):
            d_l = rows if learn_everywhere else visible_to_layer(rows, i, len(layers))
            h, _, value = finish(layer_slices(layer, h, labels, d_l, how))
            optimizer.step()
            losses[f"layer {i + 1}"] = value
        if self.model.classifier is not None:
            losses["classifier"] = self._classifier_step(h, labels)
        return losses

    @torch.no_grad()
    def gather(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Solve the closed-form readout again, from the features as they are now."""
        if self.options.closed_form is None:
            return
        self.eval()
        rows = self.get_buffer("closed_form")  # (Z, C + 1)
        statistics = ClassStatistics(rows.shape[1] - 1, rows.device, classes=self.classes)
        for x, labels in batches:
            _, pooled = self.model.scores_and_features(x, self.loss)
            statistics.update(pooled[:, -statistics.means.shape[1] :], labels)
        rows.copy_(label_embeddings(statistics))

    @torch.enable_grad()
    def _classifier_step(self, h: Tensor, labels: Tensor) -> Tensor:
        value = F.cross_entropy(self.model.logits(h), labels)
        value.backward()  # type: ignore[no-untyped-call]
        self.optimizers[-1].step()
        return value.detach()

    def readouts(self, x: Tensor) -> dict[str, Tensor]:
        """Score by Eq. 1 at each layer, by their sum, and by f^L."""
        scores, pooled = self.model.scores_and_features(x, self.loss)
        chosen = f"layer {len(self.model.layers)}"
        if "classifier" in scores:
            chosen = "classifier"
        if self.options.closed_form is not None:
            chosen, rows = "closed form", self.get_buffer("closed_form")
            read = pooled[:, 1 - rows.shape[1] :]  # the last layer's stand last
            scores[chosen] = with_constant(read) @ rows.T
        chosen = self.options.predict or chosen
        scores[chosen] = scores.pop(chosen)  # the last one is the prediction
        return scores
