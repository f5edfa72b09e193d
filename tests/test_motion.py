"""The box around what moves, on scenes whose truth is known."""

import numpy as np
import pytest

from cfl_edge.loop.gaze import LEAST_PX, Motion, connected

SIDE = 40
RNG = np.random.default_rng(0)
ROOM = RNG.integers(60, 180, (45, 80, 3), np.uint8).repeat(8, 0).repeat(8, 1)  # 640 x 360 clutter


def frame(position=None, *, light=0):
    """The room with sensor noise, and a bright square of `SIDE` at a position."""
    image = ROOM.astype(np.int16) + light + RNG.integers(-4, 5, ROOM.shape)
    if position is not None:
        x, y = position
        image[y : y + SIDE, x : x + SIDE] = 235
    return np.clip(image, 0, 255).astype(np.uint8)


def holds(box, position):
    left, top, right, bottom = box
    x, y = position
    return left <= x and top <= y and x + SIDE <= right and y + SIDE <= bottom


def path(count, start=(40, 60), step=(6, 3)):
    return [(start[0] + i * step[0], start[1] + i * step[1]) for i in range(count)]


def test_nothing_moves_in_a_still_room():
    motion = Motion()
    assert [motion.see(frame()) for _ in range(30)] == [None] * 30


def test_what_moves_is_in_the_box_and_the_box_is_small():
    motion = Motion()
    motion.see(frame())
    for position in path(60):
        box = motion.see(frame(position))
        assert holds(box, position)
        left, top, right, bottom = box
        assert (right - left) * (bottom - top) < 9 * SIDE**2


def test_the_place_that_a_thing_leaves_is_not_followed():
    """It is part of the first image, and so of the background."""
    motion = Motion()
    first, *rest = path(60)
    for _ in range(5):
        motion.see(frame(first))
    boxes = [motion.see(frame(position)) for position in rest]
    assert all(holds(box, position) for box, position in zip(boxes[20:], rest[20:], strict=True))
    assert not any(holds(box, first) for box in boxes[20:])


def test_what_stops_is_still_looked_at():
    motion = Motion()
    motion.see(frame())
    for position in path(30):
        motion.see(frame(position))
    assert all(holds(motion.see(frame(position)), position) for _ in range(200))


@pytest.mark.parametrize("light", [-40, 40])
def test_a_change_of_light_is_no_motion(light):
    motion = Motion()
    for _ in range(10):
        motion.see(frame())
    assert [motion.see(frame(light=light)) for _ in range(10)] == [None] * 10


def test_a_single_changed_pixel_is_no_motion():
    motion = Motion()
    for i in range(20):
        image = ROOM.copy()
        image[100 + i, 200] = 255
        assert motion.see(image) is None


def test_another_scene_or_size_begins_anew():
    motion = Motion()
    motion.see(frame())
    assert motion.see(frame((300, 100))) is not None
    assert motion.see(255 - frame()) is None
    assert motion.see(frame()[:200]) is None


def test_a_small_thing_at_the_edge_gets_the_smallest_box_within_the_image():
    motion = Motion()
    motion.see(frame())
    image = frame()
    image[330:, 610:] = 250
    left, top, right, bottom = motion.see(image)
    assert (right, bottom) == (640, 360)
    assert (right - left, bottom - top) == (LEAST_PX, LEAST_PX)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 500, 3), (500, 2, 3), (1080, 1920, 3)])
def test_any_size(shape):
    motion = Motion()
    image = np.zeros(shape, np.uint8)
    assert motion.see(image) is None
    box = motion.see(255 - image)
    assert box is None


def test_connected_parts_are_those_of_a_flood_fill():
    rng = np.random.default_rng(1)
    for _ in range(20):
        cells = rng.random((9, 13)) < 0.4
        numbers = connected(cells)
        assert ((numbers > 0) == cells).all()
        expected = _flooded(cells)
        for part in range(1, expected.max() + 1):
            assert len(np.unique(numbers[expected == part])) == 1
        assert len(np.unique(numbers[cells])) == expected.max()


def _flooded(cells):
    parts, count = np.zeros(cells.shape, int), 0
    for start in zip(*np.nonzero(cells), strict=True):
        if parts[start]:
            continue
        count += 1
        waiting = [start]
        while waiting:
            y, x = waiting.pop()
            inside = 0 <= y < cells.shape[0] and 0 <= x < cells.shape[1]
            if inside and cells[y, x] and not parts[y, x]:
                parts[y, x] = count
                waiting += [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return parts
