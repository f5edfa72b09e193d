"""Two groups: compared with all divisions there are, and with scikit-learn."""

import itertools

import pytest
import torch
from sklearn.cluster import KMeans

from cfl_edge.core.two_means import two_means


def within(x, smaller):
    return sum(float((x[g] - x[g].mean(0)).square().sum()) for g in (smaller, ~smaller))


@pytest.mark.parametrize("seed", range(5))
def test_no_other_division_is_better(seed):
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(seed)).double()
    groups = two_means(x)
    divisions = itertools.product([False, True], repeat=8)
    least = min(within(x, torch.tensor([False, *rest])) for rest in divisions if any(rest))
    assert within(x, groups.smaller) == pytest.approx(least)
    total = float((x - x.mean(0)).square().sum())
    assert groups.apart == pytest.approx(1 - least / total)
    assert groups.smaller.sum() <= 4


@pytest.mark.parametrize("second", [3, 40, 97])
def test_the_groups_and_means_are_those_of_scikit_learn(second):
    generator = torch.Generator().manual_seed(second)
    x = torch.randn(100, 8, generator=generator)
    x[:second] += 5
    groups = two_means(x)
    theirs = KMeans(2, n_init=10, random_state=0).fit(x.numpy())
    smaller = int((theirs.labels_ == 1).sum() <= 50)
    assert groups.smaller.tolist() == (theirs.labels_ == smaller).tolist()
    expected = theirs.cluster_centers_[[1 - smaller, smaller]]
    torch.testing.assert_close(groups.means, torch.from_numpy(expected), rtol=1e-3, atol=1e-3)


def test_the_same_seed_gives_the_same_groups():
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))  # no two groups in it
    assert (two_means(x, seed=3).smaller == two_means(x, seed=3).smaller).all()


def test_one_that_is_far_from_all_others_is_a_group():
    x = torch.zeros(6, 2)
    x[4] = 7
    assert two_means(x).smaller.tolist() == [False] * 4 + [True, False]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_samples_that_are_all_the_same_are_no_two_groups(count):
    assert two_means(torch.ones(count, 3)) is None
