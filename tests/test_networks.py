"""The paper's networks have the paper's sizes, and normalisation on the way in needs no batch."""

import pytest
import torch

from cfl_edge.core.closed_form import closed_form_parts
from cfl_edge.core.layers import LocalLayer, normalised_conv, paper_fc
from cfl_edge.core.networks import Network, build_network


def parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("kind", "channels_in", "classes", "table_1"),
    [  # "without f^L" of Table 1, label embeddings included
        ("conv256", 1, 10, 151.2e3),
        ("conv256", 3, 10, 152.4e3),
        ("conv256", 3, 100, 175.4e3),
        ("conv512", 3, 10, 1.336e6),
        ("conv512", 3, 100, 1.382e6),
    ],
)
def test_parameters_of_the_convolution_networks_are_those_of_table_1(
    kind, channels_in, classes, table_1
):
    network = build_network(kind, (channels_in, 32, 32))
    embeddings = classes * max(network.channels)
    assert parameters(network) + embeddings == pytest.approx(table_1, rel=5e-3)


def test_parameters_of_the_fully_connected_network():
    network = build_network("fc", (3, 32, 32))
    classifier = 3072 * 10 + 10
    embeddings = 10 * 128
    # Table 1 says 18.93M for f^L included; its figure fits one LayerNorm more than Table 4 lists.
    assert parameters(network) + classifier + embeddings == pytest.approx(18.93e6, rel=2e-3)


def test_fully_connected_outputs_are_read_as_channels_by_positions():
    layer = paper_fc(12, 24, positions=4)
    h = layer(torch.randn(2, 3, 2, 2))
    expected = torch.stack([h.view(2, 6, 4)[:, :, k] for k in range(4)]).mean(dim=0)
    torch.testing.assert_close(layer.pool(h), expected)


def test_a_grid_keeps_where_something_is():
    layer = build_network("conv256", (3, 14, 14), grid=2).layers[0]
    h = torch.randn(2, 64, 12, 12)
    assert layer.channels == 256
    pooled = layer.pool(h).view(2, 64, 2, 2)
    for row in range(2):
        for column in range(2):
            cell = h[:, :, 6 * row : 6 * row + 6, 6 * column : 6 * column + 6]
            torch.testing.assert_close(pooled[:, :, row, column], cell.mean(dim=(2, 3)))
    assert closed_form_parts(LocalLayer(normalised_conv(3, 8, 1).block, 8, grid=2)) is None


def test_tokens_are_averaged_and_keep_their_channels():
    layers = list(build_network("vit", (3, 32, 32)))
    h = layers[0].eval()(torch.randn(2, 3, 32, 32))
    assert h.shape == (2, 64, 256)
    torch.testing.assert_close(layers[0].pool(h), sum(h[:, k] for k in range(64)) / 64)


def test_fully_connected_networks_differ_by_data_as_table_4_has_them():
    for kind, units, k, dropout in (("fc-mnist", 1024, 8, 0), ("fc-cifar100", 3072, 12, 1)):
        network = build_network(kind, (1, 28, 28))
        assert network.channels == [units // k, units // k]
        modules = [m for layer in network for m in layer.modules()]
        rates = [m.p for m in modules if isinstance(m, torch.nn.Dropout)]
        assert rates == [0.3, 0.3] * dropout
    assert build_network("fc", (3, 32, 32), positions=1).channels == [3072, 3072]


def test_a_sample_has_the_same_features_alone_and_in_a_batch():
    network = build_network("8,8", (3, 12, 12)).train()
    x = torch.randn(5, 3, 12, 12)
    for together, alone in zip(network(x), network(x[2:3]), strict=True):
        torch.testing.assert_close(together[2:3], alone)


def test_scaling_the_input_changes_nothing_behind_the_normalisation():
    network = build_network("8", (3, 12, 12))
    x = torch.randn(2, 3, 12, 12)
    torch.testing.assert_close(network(x)[0], network(5 * x + 3)[0], rtol=1e-4, atol=1e-4)


def test_any_module_can_be_a_layer():
    network = Network([LocalLayer(torch.nn.Conv2d(3, 4, 1), 4)])
    assert [h.shape for h in network(torch.zeros(2, 3, 5, 5))] == [(2, 4)]
