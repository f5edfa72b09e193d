"""Data sets of the paper's experiments: which images train, select and test; coarse classes."""

from dataclasses import replace

import pytest
import torch

from cfl_edge.errors import DataError, UsageError
from cfl_edge.lab.data.dataset import Dataset, fingerprint, hold_out, split, with_coarse_labels


def labelled(y_train, y_test=(0, 1)):
    """A data set of one-pixel images whose values are their own numbers."""
    y_train, y_test = torch.tensor(y_train), torch.tensor(y_test)
    x_train = torch.arange(len(y_train)).to(torch.uint8).view(-1, 1, 1, 1)
    x_test = torch.zeros(len(y_test), 1, 1, 1, dtype=torch.uint8)
    names = [f"class {i}" for i in range(int(y_train.max()) + 1)]
    return Dataset("drawn", x_train, y_train, x_test, y_test, names)


def counts(dataset, index):
    return dataset.y_train[index].bincount(minlength=dataset.classes).tolist()


UNEVEN = [0] * 100 + [1] * 40 + [2] * 10 + [3] * 2 + [4]


# --- split ---------------------------------------------------------------------------------------


def test_parts_are_disjoint_and_complete_and_ordered():
    dataset = labelled(UNEVEN)
    parts = split(dataset)
    together = torch.cat([parts.train, parts.validation])
    assert sorted(together.tolist()) == list(range(len(UNEVEN)))
    assert parts.test.tolist() == [0, 1]
    assert (parts.train.diff() > 0).all()
    assert (parts.validation.diff() > 0).all()
    assert {part.dtype for part in (parts.train, parts.validation, parts.test)} == {torch.int64}


def test_validation_is_stratified_with_one_of_each_class_of_two_or_more():
    dataset = labelled(UNEVEN)
    assert counts(dataset, split(dataset).validation) == [10, 4, 1, 1, 0]
    assert counts(dataset, split(dataset, validation=0.001).validation) == [1, 1, 1, 1, 0]
    assert counts(dataset, split(dataset, validation=0.99).validation) == [99, 39, 9, 1, 0]


def test_no_validation_part():
    parts = split(labelled(UNEVEN), validation=0)
    assert parts.validation.shape == (0,)
    assert len(parts.train) == len(UNEVEN)


def test_images_do_not_depend_on_the_run():
    dataset = labelled(UNEVEN)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = split(dataset, train_images=50)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second = split(dataset, train_images=50)
    assert torch.equal(first.train, second.train)
    assert torch.equal(first.validation, second.validation)


def test_the_seed_changes_the_training_images_only():
    dataset = labelled(UNEVEN, [0, 1] * 50)
    first, second = (split(dataset, train_images=50, test_images=9, seed=s) for s in (0, 1))
    assert not torch.equal(first.train, second.train)
    assert torch.equal(first.validation, second.validation)
    assert torch.equal(first.test, second.test)


def test_validation_images_are_mixed_and_the_same_for_every_choice():
    dataset = labelled([0, 1] * 500)
    whole, few = split(dataset), split(dataset, train_images=10, seed=3)
    assert torch.equal(whole.validation, few.validation)
    assert not set(few.train.tolist()) & set(few.validation.tolist())
    assert 350 < whole.validation.double().mean() < 650  # not the first of the file


def test_a_choice_is_balanced_and_part_of_every_larger_one():
    dataset = labelled([0] * 500 + [1] * 300 + [2] * 30)
    smaller = set()
    for images in range(3, 700, 31):
        part = split(dataset, train_images=images).train
        size = counts(dataset, part)
        assert sum(size) == images == len(part)
        rest = [450, 270, 27]
        for mine, limit in zip(size, rest, strict=True):
            assert mine == limit or mine >= max(size) - 1
        assert smaller <= set(part.tolist())
        smaller = set(part.tolist())


def test_the_one_more_is_not_always_of_the_first_class():
    dataset = labelled(list(range(10)) * 50)
    extra = torch.zeros(10)
    for seed in range(100):
        part = split(dataset, validation=0, train_images=25, seed=seed).train
        extra += torch.tensor(counts(dataset, part)) == 3
    assert extra.sum() == 500
    assert extra.min() > 25  # 50 expected, standard deviation 5


def test_test_images_are_balanced_and_of_the_test_split():
    dataset = labelled([0, 1, 2] * 10, [0] * 50 + [1] * 50 + [2] * 5)
    chosen = split(dataset, test_images=25).test
    assert dataset.y_test[chosen].bincount().tolist() == [10, 10, 5]


def test_wrong_numbers_of_images():
    dataset = labelled(UNEVEN, [0, 1, 1])
    with pytest.raises(UsageError) as error:
        split(dataset, train_images=138)
    assert error.value.problem == (
        "--train-images is 138, expected 5 (one of each class) to 137 (all there are)"
    )
    assert error.value.hint == "--train-images 137"
    assert len(split(dataset, train_images=137).train) == 137
    with pytest.raises(UsageError, match=r"--train-images is 4, expected 5 .*\n.*--train-images 5"):
        split(dataset, train_images=4)
    with pytest.raises(UsageError, match="--train-images is -1"):
        split(dataset, train_images=-1)
    with pytest.raises(UsageError, match=r"--test-images is 4, expected 2 .* to 3"):
        split(dataset, test_images=4)


def test_hold_out_of_absent_classes():
    remaining, held_out = hold_out(torch.tensor([0, 3, 3]), 0.2)
    assert len(remaining) == 2
    assert held_out.tolist() in ([1], [2])


# --- coarse labels and fingerprint ---------------------------------------------------------------


def test_coarse_labels():
    fine = replace(
        labelled([0, 1, 2, 2], [2, 0]),
        coarse_of=torch.tensor([1, 1, 0]),
        coarse_names=["far", "near"],
    )
    coarse = with_coarse_labels(fine)
    assert coarse.name == "drawn-coarse"
    assert coarse.y_train.tolist() == [1, 1, 0, 0]
    assert coarse.y_test.tolist() == [0, 1]
    assert coarse.class_names == ["far", "near"]
    assert coarse.classes == 2
    assert coarse.x_train is fine.x_train
    with pytest.raises(DataError, match="drawn-coarse has no coarse classes"):
        with_coarse_labels(coarse)


def test_fingerprint_tells_every_bit_and_shape_apart():
    dataset = labelled([0, 1, 0, 1])
    prints = {fingerprint(dataset)}
    assert fingerprint(replace(dataset, name="other", x_train=dataset.x_train.clone())) in prints
    for name in ("x_train", "y_train", "x_test", "y_test"):
        changed = getattr(dataset, name).clone()
        changed.view(-1)[-1] ^= 1
        prints.add(fingerprint(replace(dataset, **{name: changed})))
    prints.add(fingerprint(replace(dataset, x_train=dataset.x_train.view(1, 4, 1, 1))))
    prints.add(fingerprint(replace(dataset, x_test=dataset.x_test[:0], y_test=dataset.y_test[:0])))
    assert len(prints) == 7
    assert all(len(text) == 16 and int(text, 16) >= 0 for text in prints)


def test_fingerprint_is_of_values_not_of_memory_layout():
    x = torch.arange(2 * 3 * 4 * 4).to(torch.uint8).view(2, 3, 4, 4)
    dataset = replace(labelled([0, 1]), x_train=x)
    turned = replace(dataset, x_train=x.contiguous(memory_format=torch.channels_last))
    assert fingerprint(turned) == fingerprint(dataset)
