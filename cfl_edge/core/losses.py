"""The local losses of a layer: one equation, one pure function.

Numbers refer to "Backpropagation-free Contrastive Forward Learning Using Label Embeddings". All see
pooled features only, so samples of a batch meet each other through (N, C) vectors and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cfl_edge.core.embeddings import average_pool, batch_embeddings, dictionary, similarity

PAPER_TEMPERATURE = 0.07  # tau, below Eq. 9
FeatureForm = Literal["printed", "no_self", "usual"]


def batch_contrastive(
    h_mean: Tensor, targets: Tensor, labels: Tensor, *, bounded: bool = False
) -> Tensor:
    """Embedding contrastive loss against the batch's embeddings (Eq. 4).

    As printed, the denominator holds negatives only: the loss has no lower bound, and a sample that
    is right by far pulls as hard as one that is wrong.

    Args:
        h_mean: Pooled features, (N, C).
        targets: T_N of `batch_embeddings`, (N, C).
        labels: Class indices, (N,).
        bounded: Add a sample's own embedding to its denominator, as in InfoNCE (van den Oord et al.
            2018): the loss is 0 at least.

    Returns:
        Loss of each sample, (N,); 0 where the batch holds no other class.
    """
    scores = similarity(h_mean, targets)  # (N, N)
    negative = labels[:, None] != labels[None, :]  # (N, N)
    counts = negative.any(dim=1)
    below = negative
    if bounded:
        below = negative | torch.eye(len(negative), dtype=torch.bool, device=negative.device)
    loss = _log_sum(scores, below, counts) - scores.diagonal()
    return torch.where(counts, loss, 0.0)


def dictionary_contrastive(h_mean: Tensor, embeddings: Tensor, labels: Tensor) -> Tensor:
    """Embedding contrastive loss against the whole dictionary (Eq. 6): a cross entropy.

    Args:
        h_mean: Pooled features, (N, C).
        embeddings: D-hat_l of `dictionary`, (Z, C).
        labels: Class indices, (N,).

    Returns:
        Loss of each sample, (N,).
    """
    return F.cross_entropy(similarity(h_mean, embeddings), labels, reduction="none")


def feature_contrastive(
    h_mean: Tensor,
    labels: Tensor,
    temperature: float = PAPER_TEMPERATURE,
    *,
    own_positive: bool = True,
) -> Tensor:
    """Supervised contrastive loss among the features of the batch (Eq. 7, 8, 9).

    As printed: the mean over the positives is inside the logarithm, a sample is a positive of
    itself, and the denominator holds negatives only (`supervised_contrastive` differs in all
    three). A sample is its own best positive, so that the least loss is that of samples which are
    all orthogonal to each other, whatever their classes: long training gets there.

    Args:
        h_mean: Pooled features, (N, C); normalised here.
        labels: Class indices, (N,).
        temperature: tau; smaller values let the nearest neighbours decide.
        own_positive: False reads Eq. 7 as the other samples of the class: no orthogonal features
            win then.

    Returns:
        Loss of each sample, (N,); 0 where the batch holds no other class, or no positive.
    """
    h_hat = F.normalize(h_mean, dim=1)
    scores = similarity(h_hat, h_hat) / temperature  # (N, N)
    same = labels[:, None] == labels[None, :]  # (N, N), Eq. 7; its complement is Eq. 8
    positive = same
    if not own_positive:
        positive = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
    counts = (~same).any(dim=1) & positive.any(dim=1)
    mean = _log_sum(scores, positive, counts) - positive.sum(dim=1).clamp(min=1).log()
    return torch.where(counts, _log_sum(scores, ~same, counts) - mean, 0.0)


def _log_sum(scores: Tensor, chosen: Tensor, counts: Tensor) -> Tensor:
    """Return log sum exp over the chosen scores of each row, (N,); rows that do not count are 0s.

    A row of -inf has no finite logsumexp, nor gradient: such rows are taken out beforehand.
    """
    left = scores.masked_fill(~chosen, -torch.inf)
    return torch.where(counts[:, None], left, 0.0).logsumexp(dim=1)


def supervised_contrastive(
    h_mean: Tensor, labels: Tensor, temperature: float = PAPER_TEMPERATURE
) -> Tensor:
    """Supervised contrastive loss in its usual form (Khosla et al. 2020, Eq. 2).

    The mean over the positives is outside the logarithm, a sample is none of its own positives, and
    the denominator holds all other samples. What the published code of CFL's successor has.

    Args:
        h_mean: Pooled features, (N, C); normalised here.
        labels: Class indices, (N,).
        temperature: tau; smaller values let the nearest neighbours decide.

    Returns:
        Loss of each sample, (N,); 0 where the batch holds no other one of its class.
    """
    h_hat = F.normalize(h_mean, dim=1)
    scores = similarity(h_hat, h_hat) / temperature  # (N, N)
    others = ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    positive = (labels[:, None] == labels[None, :]) & others
    log_share = scores - _log_sum(scores, others, others.any(dim=1))[:, None]
    return -(log_share * positive).sum(dim=1) / positive.sum(dim=1).clamp(min=1)


FEATURE_FORMS: dict[FeatureForm, Callable[[Tensor, Tensor, float], Tensor]] = {
    "printed": feature_contrastive,
    "no_self": partial(feature_contrastive, own_positive=False),
    "usual": supervised_contrastive,
}


def similarity_matching(h_mean: Tensor, labels: Tensor) -> Tensor:
    """Match the similarities of the features to those of their labels.

    The squared distance between the cosine similarities of the centred features and those of the
    one-hot labels (the `sim` loss of Nokland and Eidnes, "Training neural networks with local error
    signals", 2019, without their convolution in between).

    Args:
        h_mean: Pooled features, (N, C).
        labels: Class indices, (N,).

    Returns:
        Loss of each sample, (N,): its mean over the batch.
    """
    h_hat = F.normalize(h_mean - h_mean.mean(dim=1, keepdim=True), dim=1)
    same = (labels[:, None] == labels[None, :]).to(h_mean)  # (N, N)
    return (similarity(h_hat, h_hat) - same).pow(2).mean(dim=1)


@dataclass(frozen=True)
class LocalLoss:
    """The total local loss of a layer (Eq. 10) with its weights.

    Args:
        batch_weight: lambda_1; the paper's L_total-B has 1 here and 0 in `dict_weight`.
        dict_weight: lambda_2; the paper's L_total-D has 1 here and 0 in `batch_weight`.
        feat_weight: lambda_3; raising it pulls samples of a class together.
        temperature: tau of the feature contrastive loss.
        cosine: Whether features and embeddings are normalised and their similarities divided by
            tau, as in the cosine rows of Tables 2 and 3; plain dot products otherwise.
        feat_form: The feature loss: `printed` as in the paper (Eq. 9), `no_self`, the same without
            the sample among its own positives, or `usual`, the supervised contrastive loss of
            Khosla et al.
        sim_weight: Of `similarity_matching`, which the paper does not have.
        batch_bounded: Whether the batch loss has the positive in its denominator, which InfoNCE has
            and Eq. 4 has not.
    """

    batch_weight: float = 0.0
    dict_weight: float = 1.0
    feat_weight: float = 1.0
    temperature: float = PAPER_TEMPERATURE
    cosine: bool = False
    sim_weight: float = 0.0
    feat_form: FeatureForm = "printed"
    batch_bounded: bool = False

    def __call__(
        self,
        h_mean: Tensor,
        labels: Tensor,
        embeddings: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the mean over the batch of the weighted losses, a scalar.

        In the precision of the embeddings, whatever the layer's products are in: similarities
        reach tens, where bfloat16 counts in steps of 1/8.

        Args:
            h_mean: Pooled features, (N, C).
            labels: Class indices, (N,).
            embeddings: D_l of `visible_to_layer`, (Z, C_D).
            generator: Source of the noise on the embeddings; None for none.
        """
        with torch.autocast(h_mean.device.type, enabled=False):
            h_mean = h_mean.to(torch.promote_types(h_mean.dtype, embeddings.dtype))
            return self._total(h_mean, labels, embeddings, generator)

    def _total(
        self,
        h_mean: Tensor,
        labels: Tensor,
        embeddings: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        channels = h_mean.shape[1]
        loss = h_mean.new_zeros(())
        h = F.normalize(h_mean, dim=1) / self.temperature if self.cosine else h_mean
        if self.batch_weight:
            targets = batch_embeddings(embeddings, labels, channels, generator)
            targets = self._comparable(targets)
            of_batch = batch_contrastive(h, targets, labels, bounded=self.batch_bounded)
            loss = loss + self.batch_weight * of_batch.mean()
        if self.dict_weight:
            d_hat = self._comparable(dictionary(embeddings, channels, generator))
            loss = loss + self.dict_weight * dictionary_contrastive(h, d_hat, labels).mean()
        if self.feat_weight:
            form = FEATURE_FORMS[self.feat_form]
            loss = loss + self.feat_weight * form(h_mean, labels, self.temperature).mean()
        if self.sim_weight:
            loss = loss + self.sim_weight * similarity_matching(h_mean, labels).mean()
        return loss

    def scores(self, h_mean: Tensor, embeddings: Tensor) -> Tensor:
        """Return the similarities that this loss compares: Eq. 1, or cosines.

        Args:
            h_mean: Pooled features, (N, C).
            embeddings: D, (Z, C_D).

        Returns:
            Scores, (N, Z).
        """
        h = F.normalize(h_mean, dim=1) if self.cosine else h_mean
        return similarity(h, self._comparable(average_pool(embeddings, h_mean.shape[1])))

    def _comparable(self, embeddings: Tensor) -> Tensor:
        return F.normalize(embeddings, dim=1) if self.cosine else embeddings
