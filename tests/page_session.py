"""A session that a page can talk to, without a network to train: it counts what it is taught."""

import base64
import threading
import time
from contextlib import ExitStack

import numpy as np

from cfl_edge.errors import UsageError
from cfl_edge.frame.frame import Frame
from cfl_edge.frame.prediction import Prediction
from cfl_edge.frame.region import WHOLE_FRAME, View
from cfl_edge.frame.step import Lesson, Step
from cfl_edge.loop.mailbox import Mailbox
from cfl_edge.loop.teaching import FIRST_PICTURE
from cfl_edge.loop.watching import Watched
from cfl_edge.names import check_name
from cfl_edge.serve.page.teach import TeachPage
from cfl_edge.web.options import HttpOptions


def until(condition, seconds=20):
    end_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


class CountingSession:
    """Takes verbs and shows frames, `fps` a second, in a thread of its own."""

    def __init__(self, folder, *, fps=50, draw=None, **options):
        self.mailbox = Mailbox()
        self.samples, self.learned, self.done = {}, [], []
        self.held_as = {}  # of each picture: what `undo` with `hold` takes back together
        self.label, self.until_s, self.paused = None, 0.0, False
        self.fps, self.frame, self.show = fps, 0, True
        self.draw = draw or (lambda number: np.full((48, 64, 3), number % 256, np.uint8))
        self.sent = lambda number: None  # the JPEG of a frame, as a camera sent it
        self.score, self.pictures, self.suspects, self.refused = 0.91, [], [], None
        self.view, self.turn = WHOLE_FRAME, threading.Lock()  # held: the session stands still
        self.notices, self.onnx = [], folder / "onnx" / "model.onnx"
        self.inbox = options.pop("inbox", None)
        self.page = TeachPage(
            HttpOptions(options.pop("host", "127.0.0.1"), options.pop("port", 0), **options),
            Watched(self.mailbox, lambda: (self.view, 32), self.onnx, self.inbox),
            self.notices.append,
        )
        self._ended = threading.Event()

    def __enter__(self):
        with ExitStack() as stack:
            stack.enter_context(self.page.server)
            self._thread = threading.Thread(target=self._run)
            self._thread.start()
            stack.callback(self._thread.join)
            stack.callback(self._ended.set)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    @property
    def port(self):
        return self.page.server.port

    def _run(self):
        while not self._ended.wait(1 / self.fps):
            with self.turn:
                self.mailbox.serve(self._do)
                if self.show:
                    self._show()
        self.mailbox.close()

    def _show(self):
        now_s = time.monotonic()
        label = self.label if now_s < self.until_s and not self.paused else None
        if label is not None:
            self.samples[label] = self.samples.get(label, 0) + 1
            self.learned.append((self.frame, label, now_s))
        best = max(self.samples, key=self.samples.get, default=None)
        scores = np.log(np.array([count + 0.1 for count in self.samples.values()], np.float32))
        self.page.see(
            Step(
                Frame(self.draw(self.frame), now_s, self.frame, jpeg=self.sent(self.frame)),
                Prediction(best, best and self.score, None, scores, nearest=best),
                Lesson(
                    label,
                    label is not None,
                    len(self.learned),
                    0.93 if self.learned else None,
                    samples=dict(self.samples),
                    classes=tuple(self.samples),
                ),
                fps=float(self.fps),
                seconds=now_s,
                seen=self.frame + 1,
            )
        )
        self.frame += 1

    def _do(self, verb, arguments):
        answer = getattr(self, f"_do_{verb}")(**arguments)
        if verb not in ("status", "suspects", "attention"):
            self.done.append((verb, dict(arguments)))
            self.page.done(verb, arguments, answer)
        return {"said": f"{verb} done"} | answer

    def _known(self, name):
        if name not in self.samples:
            raise UsageError(f"there is no class {name}", hint="one of the classes")

    def _do_region(self, region):
        self.view = View.parse(self.view.fit, region)
        return {"said": f"{region} is looked at", "region": region}

    def _do_label(self, label, seconds=1e9):
        self.label = None if label is None else check_name(label)
        self.until_s = time.monotonic() + seconds
        return {}

    def _do_unlabel(self):
        return self._do_label(None)

    def _do_label_frame(self, label, frame):
        self.samples[check_name(label)] = self.samples.get(label, 0) + 1
        self.learned.append((frame, label, time.monotonic()))
        return {"frame": frame, "learned": True}

    def _do_label_picture(self, label, picture, batch=None):
        if label == self.refused:
            self._known(label)
        label, number = check_name(label), FIRST_PICTURE + len(self.pictures)
        self.pictures.append((label, base64.b64decode(picture)))
        self.held_as[number] = label if batch is None else batch
        self.samples[label] = self.samples.get(label, 0) + 1
        self.learned.append((number, label, time.monotonic()))
        return {"frame": number, "label": label, "learned": True}

    def _do_relabel(self, label, frames):
        self.relearn(check_name(label), frames)
        return {"moved": {}}

    def _do_forget(self, frames):
        self.relearn(None, frames)
        return {"moved": {}}

    def relearn(self, label, frames):
        for frame, old, _ in self.learned:
            if frame in frames:
                self.samples[old] -= 1
                if label is not None:
                    self.samples[label] = self.samples.get(label, 0) + 1
        self.suspects = [run for run in self.suspects if run["frames"] != frames]

    def _do_attention(self, label=None, layer=None):
        self._known(label or max(self.samples, default="nothing"))
        place = 5 if layer is None else 2  # in the middle
        rows = [[float(x == y == place) for x in range(6)] for y in range(6)]
        return {"label": label, "rows": rows, "layers": ["backbone 1", "layer 1"]}

    def _do_suspects(self):
        return {"suspects": self.suspects}

    def _do_undo(self, hold=False, frames=0):
        def held():
            return self.held_as.get(self.learned[-1][0], self.learned[-1][1])

        last = held() if self.learned else None
        count = 0
        while self.learned and (held() == last if hold else count < frames):
            self.samples[self.learned.pop()[1]] -= 1
            count += 1
        return {"frames_taken_back": count}

    def _do_add(self, name):
        self.samples.setdefault(check_name(name), 0)
        return {}

    def _do_rename(self, name, to):
        self._known(name)
        to = check_name(to)
        self.samples = {to if one == name else one: n for one, n in self.samples.items()}
        self.learned = [(f, to if one == name else one, s) for f, one, s in self.learned]
        return {}

    def _do_merge(self, names, into):
        for name in names:
            self._known(name)
        if len(set(names)) < 2 or into not in names:
            raise UsageError("expected at least 2 classes, and one of them", hint="both")
        self.samples[into] = sum(self.samples.pop(name) for name in {*names, into})
        self.learned = [(f, into if one in names else one, s) for f, one, s in self.learned]
        return {}

    def _do_remove(self, name):
        self._known(name)
        del self.samples[name]
        self.learned = [one for one in self.learned if one[1] != name]
        return {}

    def _do_pause(self):
        self.paused = True
        return {}

    def _do_resume(self):
        self.paused = False
        return {}

    def _do_save(self):
        return {}

    def _do_export(self):
        self.onnx.parent.mkdir(exist_ok=True)
        self.onnx.write_bytes(b"onnx" * 100_000)
        self.onnx.with_name("labels.txt").write_text("\n".join(self.samples), "utf-8")
        return {}

    def _do_status(self):
        return {
            "classes": [
                {"name": name, "samples": count, "recent_accuracy": 0.9}
                for name, count in self.samples.items()
            ],
            "paused": self.paused,
            "label": self.label,
            "model": "runs/kitchen",
        }
