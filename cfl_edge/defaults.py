"""Defaults and ranges that options share with the code that obeys them; imports nothing heavy.

An option's help shows the same constant that the code below uses, so neither can go stale.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

OptimizerName = Literal["adamw", "momentum", "sgd"]  # each keeps less than the one before
DeviceName = Literal["auto", "cpu", "cuda"]
Order = Literal["as-is", "shuffled", "by-class"]  # of the images of a folder

VERSION = "0.1.0"
NEVER = -1e4  # the bias of a class that has no samples
NEVER_NEAREST = 1e30  # the same of a readout of distances: no sample lies near it
UNKNOWN: Final = "unknown"  # the answer to what is none of the classes, with --reject

LEARNER = "cfl"
BACKBONE = "efficientnet-lite0"
LAYERS_WITH_BACKBONE = "256,256"
LAYERS_WITHOUT_BACKBONE = "conv256"
IMAGE_PX_WITH_BACKBONE = 96
IMAGE_PX_WITHOUT_BACKBONE = 32
LEAST_IMAGE_PX, MOST_IMAGE_PX = 8, 1024
OPTIMIZER: OptimizerName = "adamw"
STATISTICS_MIB = 8.0  # 2,048 joint features; half of it costs 1 to 2 points (DECISIONS.md)
MOST_STATISTICS_MIB = 64.0  # 5,792 numbers: more than the default backbone gives
TRIANGLE_PANEL = 64  # rows: a block takes less than a millisecond on a core
REPLAY_MIB = 16.0
MOST_MIB = 1 << 16  # of the replay memory or the journal
MOST_COUNT = 1 << 53  # frames or steps: exact as a float, and 9 million years of a camera
MOST_SEED = (1 << 63) - 1  # what a generator of torch takes
MOST_BATCH = 1 << 16  # samples of a gradient step
JOURNAL_MIB = 8.0  # 1,100 frames with the default backbone, 37 s at 30 a second
BATCH = 32

MODEL_FOLDER = Path("runs/model")
LABELS_PORT = 8765
UI_HOST, UI_PORT = "127.0.0.1", 8080
PICTURE_PX = 640  # longest side of the page's live picture: sharp on a phone, 20 to 40 kB
FLEET_PORT = 8000  # Flower's own
MOST_SECONDS = 86_400.0  # of a label that ends by itself, and back in time: a day
RING_S = 10.0  # a person reacts within a second and names a thing within a few
SLOWEST_HZ = 0.1  # a frame in ten seconds: time-lapse cameras
FASTEST_HZ = 1000.0  # above any camera's, and the shortest time that Linux waits for precisely
STABLE_FRAMES = 3  # in a row: one odd frame between others is no change
