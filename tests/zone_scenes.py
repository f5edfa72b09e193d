"""Two zones side by side in each frame, and a hand that labels them."""

from contextlib import contextmanager

import numpy as np
from learn_settings import load_settings
from scripted_camera import ignore

from cfl_edge.loop.learn import learn

TWO = """
[door]
region = "0,0,60,80"
fit = "stretch"

[bin]
region = "60,0,60,80"
"""

HALVES = {"door": slice(0, 60), "bin": slice(60, 120)}
FITS = {"door": "stretch", "bin": "pad"}
COLOURS = {"on": (210, 60, 40), "off": (40, 60, 210)}
MODEL = {"backbone": "none", "layers": "8,16", "image": 16, "learner": "slda"}


def scene(door, bin, seed=0):
    """A frame whose halves show a class each."""
    rng = np.random.default_rng(seed)
    image = rng.integers(-40, 40, (80, 120, 3))
    image[:, HALVES["door"]] += np.array(COLOURS[door])
    image[:, HALVES["bin"]] += np.array(COLOURS[bin])
    return np.clip(image, 0, 255).astype(np.uint8)


def truth(index):
    """What the zones show in the frame of this number: never the same."""
    return {"door": "on", "bin": "off"} if index // 2 % 2 else {"door": "off", "bin": "on"}


class Teacher:
    """Labels both zones through their sessions, and notes every step."""

    def __init__(self, label=truth):
        self.mailboxes, self.steps, self.label = {}, [], label

    def watch(self, zone):
        @contextmanager
        def watch(watched):
            self.mailboxes[zone.name] = watched.mailbox
            self._hold(zone.name, 0)
            yield self

        return [watch]

    def see(self, step):
        self.steps.append(step)
        self._hold(step.zone, step.frame.index + 1)

    def done(self, verb, arguments, answer):
        """Nothing to note."""

    def _hold(self, zone, index):
        label = self.label(index)
        label = label and label[zone]
        self.mailboxes[zone].submit("label", {"label": label})

    def of(self, zone):
        return [step for step in self.steps if step.zone == zone]


def settings(stream, zones, model, **more):
    return load_settings(stream=str(stream), zones=zones, model=model, **MODEL | more)


def teach(stream, zones, model, on_step=ignore, **more):
    teacher = Teacher(**{"label": more.pop("label")} if "label" in more else {})
    learned = learn(
        settings(stream, zones, model, learn_flagged=True, **more),
        on_notice=ignore,
        on_step=on_step,
        watch=teacher.watch,
    )
    return teacher, learned
