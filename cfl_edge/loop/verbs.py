"""What can be asked of a model, while it learns or not: one method for each verb.

Whoever asks (a key, a page, a button, a command) calls `Verbs.do` with JSON values, in the thread
that learns: other threads through a `cfl_edge.loop.mailbox.Mailbox`. An error means that nothing
was changed. Nothing here imports torch before a verb needs it.
"""

from __future__ import annotations

import base64
import dataclasses
import gc
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, final

from cfl_edge.config.models import SplitSettings, UndoSettings
from cfl_edge.errors import DataError, ExportError, SessionError, UsageError
from cfl_edge.labels.hold import HEARTBEAT_S
from cfl_edge.labels.ring import LabelledError, NotKeptError
from cfl_edge.learner.classes import Counts, change, count, remove
from cfl_edge.learner.moved import move
from cfl_edge.learner.split import relabel, split
from cfl_edge.learner.undo import undo
from cfl_edge.loop import verb_arguments as given
from cfl_edge.loop.glance import BURST_S
from cfl_edge.loop.running import Running
from cfl_edge.loop.verb_arguments import VERBS
from cfl_edge.model.changing import OpenModel
from cfl_edge.model.class_table import Change
from cfl_edge.model.last_stream import learn_command
from cfl_edge.names import visible
from cfl_edge.notices import Notice, counted, log_notice
from cfl_edge.region import parse_region

Answer = dict[str, Any]


@final
class Verbs:
    """What can be asked of a model.

    Args:
        model: What it is asked of.
        running: The session that learns on it, in this thread; None where nobody does.
        on_notice: Called with what the user should know; answers have it as well.
    """

    def __init__(
        self, model: OpenModel, running: Running | None = None, *, on_notice: Notice = log_notice
    ) -> None:
        self._model, self._maybe_running, self._on_notice = model, running, on_notice
        self._notices: list[str] = []
        self._held: tuple[str, int] | None = None  # a label, and the frames learned before it

    def do(self, verb: str, arguments: Mapping[str, Any]) -> Answer:
        """Run a verb.

        Args:
            verb: One of `VERBS`.
            arguments: JSON values by name, as `cfl_edge.loop.verb_arguments` has them.

        Returns:
            JSON values: `said` is a sentence for people, `notices` are more of them, and the rest
            is for programs.

        Raises:
            CflEdgeError: It cannot be done. Nothing was changed.
        """
        if verb not in VERBS:
            raise UsageError(
                f"There is no verb {visible(str(verb)[:64])}", hint=f"one of {', '.join(VERBS)}"
            )
        asked = VERBS[verb].of(verb, arguments)
        self._notices = []
        answer: Answer = getattr(self, verb)(asked)
        is_news = answer.pop("news", verb not in ("status", "classes"))  # no heartbeat of a hold
        if self._maybe_running is not None and is_news:
            self._on_notice(answer["said"])
        return answer | {"notices": self._notices}

    def label(self, asked: given.Label) -> Answer:
        """Let a label hold from now on."""
        teaching = self._running("label").teaching
        if asked.label is None:
            return self.unlabel(given.Nothing())
        label = asked.label
        is_news = self._held is None or label != self._held[0]
        if is_news:
            self._end_hold()
            self._held = label, teaching.learned
        teaching.hold.set(label, seconds=asked.seconds or math.inf, frames=asked.frames or math.inf)
        is_timed = asked.seconds is not None and asked.seconds > HEARTBEAT_S
        lasts = [f"{asked.seconds:g} s"] if is_timed else []
        lasts += [counted(asked.frames, "frame")] if asked.frames else []
        said = f"label {label}" + (f" for {', at most '.join(lasts)}" if lasts else "")
        paused = "; learning is paused" if teaching.hold.paused else ""
        return {"said": said + paused, "label": label, "news": is_news}

    def unlabel(self, asked: given.Nothing) -> Answer:
        """Let go of the label that is held."""
        self._running("unlabel").teaching.hold.set(None)
        self._end_hold()
        return {"said": "no label", "label": None, "news": False}

    def follow_hold(self) -> None:
        """Say it where the time of a label is over; called between two frames."""
        if self._held is not None and self._running("label").teaching.hold.current() is None:
            self._end_hold()

    def _end_hold(self) -> None:
        """Say once that a label is not held any more, and what it taught."""
        if self._held is None:
            return
        (label, before), self._held = self._held, None
        learned = max(0, self._running("label").teaching.learned - before)
        self._on_notice(f"{label} is not held any more: {counted(learned, 'frame')} learned")

    def label_frame(self, asked: given.LabelFrame) -> Answer:
        """Label one past frame, and learn it; one that has another label is relabelled."""
        asked.require_one("label_frame", "frame", "seconds_ago")
        running, label = self._running("label_frame"), asked.label
        try:
            frame, learned = running.teaching.teach_past(
                label, frame=asked.frame, seconds_ago=asked.seconds_ago
            )
        except NotKeptError as error:
            raise DataError(str(error), hint="label a newer frame") from error
        except LabelledError as error:
            if error.label == label:
                raise DataError(str(error), hint="another frame, or another label") from error
            answer = self.relabel(given.Relabel(label=label, frames=[error.frame]))
            return answer | {"frame": error.frame, "learned": True}
        said = f"frame {frame} is {label}" + ("" if learned else ": not learned, it has a flag")
        return {"said": said, "frame": frame, "label": label, "learned": learned}

    def label_picture(self, asked: given.LabelPicture) -> Answer:
        """Learn a picture that is no frame of the stream."""
        from cfl_edge.stream.decode import ImageError, decode_image  # loads PyAV

        running, label = self._running("label_picture"), asked.label
        try:
            image = decode_image(base64.b64decode(asked.picture, validate=True))
        except (ImageError, ValueError) as error:
            raise DataError(
                f"The picture cannot be read: {error}", hint="a JPEG or PNG file in base64"
            ) from error
        number, learned = running.teaching.teach_picture(label, image)
        said = f"the picture is {label}" + ("" if learned else ": not learned, it has a flag")
        return {"said": said, "frame": number, "label": label, "learned": learned}

    def relabel(self, asked: given.Relabel) -> Answer:
        """Learn frames again under the label that they should have had."""
        asked.require_one("relabel", "frames", "last_s")
        label = asked.label
        if asked.frames is None:
            reach, learned = self._reach(seconds=asked.last_s), None
        else:
            learned = self._learned(asked.frames, "relabelled")
            reach = self._back_to(min(learned))
        done = relabel(self._model, label, reach, learned=learned, on_notice=self._notice)
        if self._maybe_running is not None:
            teaching = self._maybe_running.teaching
            teaching.relabelled(asked.frames or (), label)
        self._changed()
        frames = counted(sum(done.moved.values()), "frame")
        said = f"{frames} learned again as {label}, instead of {_listed(done.moved)}"
        return {"said": said, "label": label, "moved": done.moved} | _counts(done.counts)

    def forget(self, asked: given.Forget) -> Answer:
        """Forget frames that were learned, as if they had never been seen."""
        teaching = self._running("forget").teaching
        learned = self._learned(asked.frames, "forgotten")
        reach = self._back_to(min(learned))
        done = relabel(self._model, None, reach, learned=learned, on_notice=self._notice)
        teaching.forgotten(learned)
        self._changed()
        said = f"{counted(len(learned), 'frame')} forgotten: {_listed(done.moved)}"
        return {"said": said, "moved": done.moved} | _counts(done.counts)

    def suspects(self, asked: given.Nothing) -> Answer:
        """Say which frames that were learned in this session may have a wrong label."""
        running = self._running("suspects")
        found = [] if running.memory_mib is not None else running.teaching.suspects()
        runs = f"{counted(len(found), 'run')} of frames" if found else "no frame"
        said = f"{runs} may be mislabelled"
        return {"said": said, "suspects": found, "news": False}

    def attention(self, asked: given.Attention) -> Answer:
        """Say which places of the newest frame speak for a class."""
        from cfl_edge.learner.attention import attention

        running = self._running("attention")
        encoded = running.newest()
        if encoded is None:
            raise DataError("No frame has come yet", hint="ask again in a moment")
        label, places, layers = attention(running.learner, encoded, asked.label, asked.layer)
        side = math.isqrt(len(places))
        rows = [places[i : i + side] for i in range(0, len(places), side)]
        found = {"label": label, "rows": rows, "layers": layers}
        return {"said": f"places for {label}", **found, "news": False}

    def undo(self, asked: given.Undo) -> Answer:
        """Undo what was learned last, as if those frames had never been seen."""
        undone = undo(self._model, self._reach(**asked.model_dump()), on_notice=self._notice)
        frames = counted(undone.frames_taken_back, "frame")
        said = f"undone {frames}: {_listed(undone.per_class)}"
        if self._maybe_running is not None:
            teaching = self._maybe_running.teaching
            teaching.undone()
            if teaching.hold.current() in undone.per_class:
                said += f"; {teaching.hold.current()} is not held any more"
                teaching.hold.set(None)
                self._held = None
        self._changed()
        exported = undone.exported and str(undone.exported)
        return {"said": said, **dataclasses.asdict(undone), "exported": exported}

    def add(self, asked: given.Add) -> Answer:
        """Add a class to be learned later."""
        return self._change(Change("add", (), asked.name), asked.onnx)

    def rename(self, asked: given.Rename) -> Answer:
        """Rename a class."""
        return self._change(Change("rename", (asked.name,), asked.to), asked.onnx)

    def merge(self, asked: given.Merge) -> Answer:
        """Merge several classes into one."""
        into = asked.into
        return self._change(Change("merge", tuple(asked.names), into), asked.onnx)

    def split(self, asked: given.Split) -> Answer:
        """Make a new class of the frames of a class that were learned last."""
        into = asked.into
        settings = SplitSettings(
            model=self._model.store.folder,
            **asked.model_dump() | {"into": into, "onnx": _path(asked.onnx)},
        )
        done = split(self._model, settings, on_notice=self._notice)
        self._changed()
        moved, stayed = done.moved[asked.name], done.counts.frames.get(asked.name, 0)
        left = f"{stayed} left" if stayed else "none left: it is gone"
        said = f"{moved} frames learned again as {into}; {asked.name} has {left}"
        return {"said": said, "moved": moved, "stayed": stayed} | _counts(done.counts)

    def remove(self, asked: given.Remove) -> Answer:
        """Forget a class; this ends what undo can take back."""
        counts = remove(self._model, asked.name, onnx=_path(asked.onnx), on_notice=self._notice)
        said = f"removed {asked.name}"
        if self._maybe_running is not None:
            was_held = self._maybe_running.teaching.hold.current() == asked.name
            said += "; it is not held any more" if was_held else ""
            self._held = None if was_held else self._held
            self._maybe_running.teaching.follow((asked.name,), None)
            self._maybe_running.teaching.undone()
        self._changed()
        return {"said": said} | _counts(counts)

    def classes(self, asked: given.Nothing) -> Answer:
        """Count the frames learned of each class, and the samples in the replay memory."""
        counts = count(self._model)
        return {"said": _listed(counts.frames) or "no class yet"} | _counts(counts)

    def pause(self, asked: given.Nothing) -> Answer:
        """Predict, and learn nothing."""
        self._running("pause").teaching.hold.paused = True
        return {"said": "learning is paused", "paused": True}

    def resume(self, asked: given.Nothing) -> Answer:
        """Learn again."""
        self._running("resume").teaching.hold.paused = False
        return {"said": "learning goes on", "paused": False}

    def save(self, asked: given.Nothing) -> Answer:
        """Save now, not only when the next checkpoint is due."""
        running, folder = self._running("save"), self._model.store.folder
        running.checkpoints.save()
        said = f"saved {folder}, {counted(running.learner.frames_learned, 'frame')} learned"
        return {"said": said, "model": str(folder)}

    def export(self, asked: given.Export) -> Answer:
        """Write model.onnx, classifier.onnx and labels.txt, verified against torch."""
        folder = self._model.store.folder
        out = _path(asked.out) or folder / "onnx"
        running = self._maybe_running
        if running is None:
            from cfl_edge.loop.export import export_model

            exported, _ = export_model(folder, out, on_notice=self._notice)
        else:
            if running.memory_mib is not None:
                raise ExportError(
                    f"No ONNX files were written: the export would break --memory-mib "
                    f"{running.memory_mib:g}",
                    hint=f"cfl-edge export {folder} -o {out}, once learning has ended",
                )
            from cfl_edge.learner.export import export_learner
            from cfl_edge.loop.export import note_older_int8

            exported = export_learner(running.learner, out)
            note_older_int8(out, folder, self._notice)
        files = {name: _plain(value) for name, value in dataclasses.asdict(exported).items()}
        return {"said": f"exported {exported.model}", **files}

    def region(self, asked: given.Region) -> Answer:
        """Look at another part of the frame from now on; say what that does to what was learned."""
        if asked.region is None and asked.fit is None:
            raise UsageError(
                "region was given neither a region nor a fit", hint="region with 0.25,0.25,0.5,0.5"
            )
        region = parse_region(asked.region)
        full_px = self._maybe_running and self._maybe_running.session.frame_px
        if region is not None and full_px:
            region.fractions(full_px)  # one beyond the frame is refused before it ends the session
        moved = move(self._model, asked.fit, asked.region, on_notice=self._notice)
        self._changed()
        fit, text = moved.after.texts()
        return {"said": str(moved), "region": text, "fit": fit, "frames": moved.frames}

    def look(self, asked: given.Look) -> Answer:
        """Look at every frame for some seconds, whatever `--look` says."""
        running, seconds = self._running("look"), asked.seconds or BURST_S
        if running.glance is not None:
            running.glance.burst(seconds)
        return {"said": f"every frame is looked at for {seconds:g} s", "seconds": seconds}

    def publish(self, asked: given.Nothing) -> Answer:
        """Write the file of --publish now."""
        publisher = self._running("publish").publisher
        if publisher is None:
            raise UsageError(
                "Nothing is published: learn was started without --publish",
                hint="export writes the ONNX files; learn with --publish keeps one up to date",
            )
        path = publisher.publish()
        return {"said": f"published {path}", "published": str(path)}

    def status(self, asked: given.Nothing) -> Answer:
        """Say how the session stands."""
        running = self._running("status")
        return running.status() | {"model": str(self._model.store.folder)}

    def _running(self, verb: str) -> Running:
        """Return the session that learns.

        Raises:
            SessionError: Nobody learns on the model.
        """
        if self._maybe_running is None:
            folder = self._model.store.folder
            raise SessionError(
                f"{verb} needs a session, and nobody learns on {folder} now",
                hint=learn_command(folder),
            )
        return self._maybe_running

    def _notice(self, text: str) -> None:
        self._notices.append(text)
        self._on_notice(text)

    def _reach(self, **how: Any) -> UndoSettings:
        return UndoSettings(model=self._model.store.folder, **how)

    def _back_to(self, number: int) -> UndoSettings:
        """Return how far back the frame with this number, of all ever learned, is."""
        end = self._running("relabel").learner.frames_learned
        return self._reach(frames=end - number + 1)

    def _learned(self, frames: Collection[int], what: str) -> set[int]:
        """Return which frames of all that were ever learned these are.

        Args:
            frames: Their numbers in the stream.
            what: What is to become of them, for errors.

        Raises:
            DataError: One was not learned, or so long ago that it cannot be learned again.
        """
        running = self._running("relabel")
        numbers = running.teaching.numbers(frames)
        journal = running.learner.journal
        oldest = running.learner.frames_learned - (0 if journal is None else journal.reach())
        missing = sorted(set(frames) - numbers.keys())
        old = sorted(frame for frame, number in numbers.items() if number <= oldest)
        if missing:
            raise DataError(
                f"{_frames(missing)} cannot be {what}: not learned, or undone since",
                hint="label_frame teaches a frame that was not learned",
            )
        if old:
            raise DataError(
                f"{_frames(old)} cannot be {what}: too old, the journal reaches back "
                f"{counted(running.learner.frames_learned - oldest, 'frame')}",
                hint="leave them out; learn with more --journal-mib reaches further",
            )
        return set(numbers.values())

    def _change(self, asked: Change, onnx: str | None) -> Answer:
        """Change the class table."""
        counts = change(self._model, asked, onnx=_path(onnx), on_notice=self._notice)
        if self._maybe_running is not None:
            self._maybe_running.teaching.follow(asked.names, asked.into)
        self._changed()
        said = f"{_DONE[asked.verb]} {' and '.join(asked.names) or asked.into}"
        said += f" into {asked.into}" if asked.verb == "merge" else ""
        said += f" to {asked.into}" if asked.verb == "rename" else ""
        return {"said": said} | _counts(counts)

    def _changed(self) -> None:
        if self._maybe_running is None:
            return
        gc.collect()  # it took another learner: the one before has cycles, and 60 MiB
        self._maybe_running.teaching.changed()
        if self._maybe_running.glance is not None:
            self._maybe_running.glance.forget()
        if self._maybe_running.publisher is not None:
            self._maybe_running.publisher.forget()


_DONE = {"add": "added", "rename": "renamed", "merge": "merged"}


def _counts(counts: Counts) -> Answer:
    return {"classes": counts.frames, "replay": counts.replay}


def _listed(frames: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in frames.items())


def _frames(numbers: list[int]) -> str:
    some = ", ".join(map(str, numbers[:5]))
    return f"{'frames' if len(numbers) > 1 else 'frame'} {some}{' …' * (len(numbers) > 5)}"


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
