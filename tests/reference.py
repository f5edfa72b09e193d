"""Slow versions of the mathematics, written straight from the paper with loops."""

import math

import torch


def _floats(vector):
    return vector.tolist() if isinstance(vector, torch.Tensor) else vector


def dot(a, b):
    return sum(x * y for x, y in zip(_floats(a), _floats(b), strict=True))


def average_pool(embedding, channels):
    """Below Eq. 2: stride C_D / C_l, kernel C_D - (C_l - 1) * stride."""
    stride = len(embedding) // channels
    kernel = len(embedding) - (channels - 1) * stride
    values = _floats(embedding)
    return [sum(values[c * stride : c * stride + kernel]) / kernel for c in range(channels)]


def mean_similarity(h, embedding):
    """The mean over K of the dot products at each position; h is (C, K)."""
    positions = h.shape[1]
    return sum(dot(h[:, k], embedding) for k in range(positions)) / positions


def batch_contrastive(h_mean, targets, labels, bounded=False):
    """Eq. 4; bounded: with the positive in the denominator, as in InfoNCE."""
    losses = []
    for n, label in enumerate(labels):
        negatives = [i for i, other in enumerate(labels) if other != label]
        if not negatives:
            losses.append(0.0)
            continue
        below = [n, *negatives] if bounded else negatives
        denominator = sum(math.exp(dot(h_mean[n], targets[i])) for i in below)
        losses.append(-math.log(math.exp(dot(h_mean[n], targets[n])) / denominator))
    return torch.tensor(losses)


def dictionary_contrastive(h_mean, embeddings, labels):
    """Eq. 6."""
    losses = []
    for h, label in zip(h_mean, labels, strict=True):
        denominator = sum(math.exp(dot(h, t)) for t in embeddings)
        losses.append(-math.log(math.exp(dot(h, embeddings[label])) / denominator))
    return torch.tensor(losses)


def supervised_contrastive(h_mean, labels, temperature):
    """Khosla et al. 2020, Eq. 2, sample by sample."""
    h_hat = [[x / math.sqrt(dot(h, h)) for x in _floats(h)] for h in h_mean]
    losses = []
    for i, h in enumerate(h_hat):
        scores = [dot(h, other) / temperature for other in h_hat]
        others = [a for a in range(len(h_hat)) if a != i]
        total = sum(math.exp(scores[a]) for a in others)
        positives = [p for p in others if labels[p] == labels[i]]
        terms = [-math.log(math.exp(scores[p]) / total) for p in positives]
        losses.append(sum(terms) / len(terms) if terms else 0.0)
    return torch.tensor(losses)


def feature_contrastive(h_mean, labels, temperature, own_positive=True):
    """Eq. 7, 8 and 9; H+ with the sample itself, or without."""
    h_hat = [[x / math.sqrt(dot(h, h)) for x in _floats(h)] for h in h_mean]
    losses = []
    for n, label in enumerate(labels):
        positives = [
            h
            for m, (h, other) in enumerate(zip(h_hat, labels, strict=True))
            if other == label and (own_positive or m != n)
        ]
        negatives = [h for h, other in zip(h_hat, labels, strict=True) if other != label]
        if not negatives or not positives:
            losses.append(0.0)
            continue
        denominator = sum(math.exp(dot(h_hat[n], h) / temperature) for h in negatives)
        total = sum(math.exp(dot(h_hat[n], h) / temperature) / denominator for h in positives)
        losses.append(-math.log(total / len(positives)))
    return torch.tensor(losses)


def cosine(a, b):
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def similarity_matching(h_mean, labels):
    """Nokland and Eidnes (2019): cosines of centred features against equality of labels."""
    centred = [[x - sum(h) / len(h) for x in h] for h in (_floats(h) for h in h_mean)]
    losses = []
    for h, label in zip(centred, labels, strict=True):
        squares = [
            (cosine(h, g) - float(label == other)) ** 2
            for g, other in zip(centred, labels, strict=True)
        ]
        losses.append(sum(squares) / len(squares))
    return torch.tensor(losses)
