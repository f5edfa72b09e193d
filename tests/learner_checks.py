"""What every learner must do; `test_learner.py` runs the checks on each.

A learner has `image_px`, `classes`, `encode(images)`, `predict(encoded)` and `learn(encoded,
labels)`. A check takes a function that makes a fresh one and is named after the sentence it holds.
"""

import numpy as np
import torch

from cfl_edge.model.last_stream import ORIGIN


def pictures(learner, kind, count, seed=0):
    """Noisy images of two kinds: bright above, or bright on the left."""
    rng = np.random.default_rng([seed, kind])
    images = rng.integers(0, 80, (count, learner.image_px, learner.image_px, 3), dtype=np.uint8)
    half = learner.image_px // 2
    if kind == 0:
        images[:, :half] += 120
    else:
        images[:, :, :half, :2] += 120
    return images


def teach(learner, steps=10, seed=0):
    for i in range(steps):
        for kind, name in enumerate(("above", "left")):
            learner.learn(learner.encode(pictures(learner, kind, 2, seed + i)), [name, name])


def everything(value, seen=None):
    """All numbers that a learner holds, however deep, as a list of (path, bytes)."""
    seen = set() if seen is None else seen
    if isinstance(value, torch.Tensor):
        return [value.detach().cpu().numpy().tobytes()]
    if isinstance(value, torch.Generator):
        return [value.get_state().numpy().tobytes()]
    if isinstance(value, torch.optim.Optimizer):
        return everything(value.state_dict(), seen)
    if isinstance(value, torch.nn.Module):
        return everything(dict(value.state_dict()), seen)
    if isinstance(value, dict):
        return [repr(list(value))] + [x for v in value.values() for x in everything(v, seen)]
    if isinstance(value, (list, tuple)):
        return [x for v in value for x in everything(v, seen)]
    if hasattr(value, "__dict__"):
        if id(value) in seen:
            return []
        seen.add(id(value))
        numbers = {k: v for k, v in vars(value).items() if not k.endswith("_s")}  # not durations
        return everything(numbers, seen)
    return [repr(value)]


def check_predict_before_any_learning(make):
    learner = make()
    assert learner.predict(learner.encode(pictures(learner, 0, 2))).shape == (2, 0)


def check_warming_up_changes_nothing(make):
    learner = make()
    teach(learner, steps=3)
    before = everything(learner)
    learner.warm_up()
    assert everything(learner) == before


def check_encode_and_predict_change_nothing(make):
    learner = make()
    teach(learner)
    before, images = everything(learner), pictures(learner, 0, 3)
    copy = images.copy()
    learner.predict(learner.encode(images))
    assert everything(learner) == before
    assert np.array_equal(images, copy)


def check_learning_changes_something_but_not_its_input(make):
    learner = make()
    before, images = everything(learner), pictures(learner, 0, 8)
    copy = images.copy()
    learner.learn(learner.encode(images), ["above"] * 8)
    assert everything(learner) != before
    assert np.array_equal(images, copy)


def check_a_reused_camera_buffer_does_not_reach_the_learner(make):
    learner = make()
    images = pictures(learner, 0, 3)
    learner.learn(learner.encode(images), ["above"] * 3)
    before = everything(learner)
    images[:] = 0
    assert everything(learner) == before


def check_a_new_name_is_a_class_from_its_first_sample_on(make):
    learner = make()
    teach(learner, steps=4)
    new = np.full_like(pictures(learner, 0, 1), 255)
    learner.learn(learner.encode(new), ["white"])
    assert learner.classes == ["above", "left", "white"]
    assert learner.predict(learner.encode(new)).argmax(1).tolist() == [2]


def check_a_new_name_is_a_class_soon(make):
    learner = make()
    teach(learner, steps=4)
    new = np.full_like(pictures(learner, 0, 2), 255)
    for _ in range(30):
        learner.learn(learner.encode(new), ["white"] * 2)
    assert learner.predict(learner.encode(new)).argmax(1).tolist() == [2, 2]


def check_it_learns(make):
    learner = make()
    teach(learner, steps=15)
    right = 0.0
    for kind in range(2):
        images = pictures(learner, kind, 50, seed=1000)
        right += (learner.predict(learner.encode(images)).argmax(1) == kind).mean() / 2
    assert right >= 0.95


def check_the_same_seed_gives_the_same_bits(make):
    first, second = make(), make()
    assert first.counters[ORIGIN] != second.counters[ORIGIN]  # that alone tells two models apart
    second.counters[ORIGIN] = first.counters[ORIGIN]
    teach(first)
    teach(second)
    assert everything(first) == everything(second)


def check_scores_of_a_batch_are_those_of_its_samples(make):
    learner = make()
    teach(learner)
    images = pictures(learner, 1, 5)
    one_by_one = [learner.predict(learner.encode(image[None]))[0] for image in images]
    together = learner.predict(learner.encode(images))
    np.testing.assert_allclose(together, np.stack(one_by_one), rtol=1e-3, atol=1e-3)


CHECKS = [value for name, value in sorted(globals().items()) if name.startswith("check_")]
