"""What can be asked of a model, while it learns or not: one method for each verb.

Whoever asks (a key, a page, a button, a command) calls `Verbs.do` with JSON values, in the thread
that learns: other threads through a `cfl_edge.loop.mailbox.Mailbox`. An error means that nothing
was changed. Nothing here imports torch before a verb needs it.
"""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from cfl_edge.defaults import RING_S
from cfl_edge.errors import DataError, ExportError, UsageError, quoted
from cfl_edge.frame.region import parse_region
from cfl_edge.labels.hold import HEARTBEAT_S
from cfl_edge.labels.ring import LabelledError, NotKeptError
from cfl_edge.learner.moved import move
from cfl_edge.loop import verb_arguments as given
from cfl_edge.loop.change_verbs import Answer, ChangeVerbs
from cfl_edge.loop.gaze import few_pixels
from cfl_edge.loop.glance import BURST_S
from cfl_edge.loop.running import Running
from cfl_edge.loop.verb_arguments import VERBS
from cfl_edge.model.store import ONNX_FOLDER
from cfl_edge.notices import counted
from cfl_edge.text import visible


@final
class Verbs(ChangeVerbs):
    """What can be asked of a model, by name."""

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
        label, hold = asked.label, teaching.hold
        seconds, frames = asked.seconds or math.inf, asked.frames or math.inf
        if (now := hold.set(label, seconds=seconds, frames=frames)) is None:
            raise DataError(
                f"{label} was removed while it was held", hint="let go of it, and hold another one"
            )
        is_news = self._held is None or label != self._held[0]
        if is_news:
            self._end_hold()
            self._held = label, teaching.learned
        is_timed = asked.seconds is not None and asked.seconds > HEARTBEAT_S
        lasts = [f"{asked.seconds:g} s"] if is_timed else []
        lasts += [counted(asked.frames, "frame")] if asked.frames else []
        said = f"label {label}" + (f" for {', at most '.join(lasts)}" if lasts else "")
        paused = "; learning is paused" if hold.paused else ""
        return {"said": said + paused, "label": now, "news": is_news}

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
            raise DataError(str(error), hint=f"label a newer frame, within {RING_S:g} s") from error
        except LabelledError as error:
            if error.label == label:
                raise DataError(str(error), hint="another frame, or another label") from error
            answer = self.relabel(given.Relabel(label=label, frames=[error.frame]))
            return answer | {"frame": error.frame, "learned": True}
        said = f"frame {frame} is {label}{_outcome(running, learned)}"
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
        number, learned = running.teaching.teach_picture(label, image, asked.batch)
        said = f"the picture is {label}{_outcome(running, learned)}"
        answer = {"said": said, "frame": number, "label": label, "learned": learned}
        return answer | {"news": asked.batch is None}

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

    def pause(self, asked: given.Nothing) -> Answer:
        """Learn nothing by itself: what somebody corrects, reviews or imports alone."""
        self._running("pause").teaching.hold.paused = True
        said = "learning is paused; corrections and imported pictures are still learned"
        return {"said": said, "paused": True}

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
        out = folder / ONNX_FOLDER if asked.out is None else Path(asked.out)
        running = self._maybe_running
        if running is None:
            from cfl_edge.loop.export import export_model

            exported, _ = export_model(folder, out, on_notice=self._notice)
        else:
            if running.memory_mib is not None:
                raise ExportError(
                    f"No ONNX files were written: the export would break --memory-mib "
                    f"{running.memory_mib:g}",
                    hint=f"cfl-edge export {quoted(folder)} -o {quoted(out)}, once learning has "
                    "ended",
                )
            from cfl_edge.learner.export import export_learner
            from cfl_edge.loop.export import note_older_int8

            self._save_first(running)
            exported = export_learner(running.learner, out)
            note_older_int8(out, folder, self._notice)
        fields = dataclasses.asdict(exported).items()
        files = {name: str(value) if isinstance(value, Path) else value for name, value in fields}
        return {"said": f"exported {exported.model}", **files}

    def _save_first(self, running: Running) -> None:
        """Save a model that was never saved: its files would outlive a power cut, and it not."""
        if running.learner.examples and not self._model.store.exists():
            running.checkpoints.save()

    def region(self, asked: given.Region) -> Answer:
        """Look at another part of the frame from now on, or say which it is; and what that does."""
        region = parse_region(asked.region, "region")
        full_px = self._maybe_running and self._maybe_running.session.frame_px
        if region is not None and full_px:
            region.fractions(full_px)  # one beyond the frame is refused before it ends the session
        moved = move(self._model, asked.fit, asked.region, on_notice=self._notice)
        self._changed()
        if few := few_pixels(moved.after, full_px or moved.frame_px):
            (self._notice if self._maybe_running is None else self._notices.append)(few)
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
        running = self._running("publish")
        publisher = running.publisher
        if publisher is None:
            raise UsageError(
                "Nothing is published: learn was started without --publish",
                hint="export writes the ONNX files; learn with --publish keeps one up to date",
            )
        self._save_first(running)
        path = publisher.publish()
        return {"said": f"published {path}", "published": str(path)}

    def status(self, asked: given.Nothing) -> Answer:
        """Say how the session stands."""
        running = self._running("status")
        return running.status() | {"model": str(self._model.store.folder)}


def _outcome(running: Running, learned: bool) -> str:
    """Return what to say of one frame or picture that somebody labelled."""
    if not learned:
        return ": not learned, it has a flag"
    return ": learned, and learning stays paused" if running.teaching.hold.paused else ""
