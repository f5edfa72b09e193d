"""Label embeddings against loops written from the paper."""

import pytest
import reference
import torch

from cfl_edge.core import embeddings as e


@pytest.mark.parametrize(("c_d", "channels"), [(8, 8), (8, 4), (12, 3), (11, 4), (7, 5), (6, 1)])
def test_average_pool_follows_the_paper(c_d, channels):
    table = torch.randn(3, c_d)
    expected = torch.tensor([reference.average_pool(row, channels) for row in table])
    torch.testing.assert_close(e.average_pool(table, channels), expected)


def test_similarity_of_the_mean_is_the_mean_of_the_similarities():
    h, table = torch.randn(2, 5, 7), torch.randn(3, 5)  # (N, C, K), (Z, C)
    expected = torch.tensor([[reference.mean_similarity(x, t) for t in table] for x in h])
    torch.testing.assert_close(e.similarity(h.mean(dim=2), table), expected)


def test_noise_has_the_paper_s_spread_and_differs_within_a_class():
    table = torch.zeros(2, 16)
    targets = e.batch_embeddings(table, torch.zeros(4000, dtype=torch.long), 8,
                                 torch.Generator().manual_seed(0))  # fmt: skip
    assert targets.shape == (4000, 8)
    assert float(targets.std()) == pytest.approx(1 / 8, rel=0.02)
    assert len(targets.unique(dim=0)) == 4000
    assert torch.equal(e.dictionary(table, 8), torch.zeros(2, 8))


def test_embeddings_get_gradients_at_the_last_layer_only():
    table = torch.zeros(2, 4, requires_grad=True)
    assert [e.visible_to_layer(table, layer, 3).requires_grad for layer in range(3)] == [
        False,
        False,
        True,
    ]
