"""Verbs of other threads run in the session's own, between two frames and while none comes."""

import signal
import threading
import time

import numpy as np
import pytest
from scripted_camera import Camera, shot

from cfl_edge.errors import DataError, SessionError, UsageError
from cfl_edge.frame.prediction import Prediction
from cfl_edge.loop.interrupts import Interrupts
from cfl_edge.loop.mailbox import MOST_WAITING, Mailbox
from cfl_edge.loop.session import Predicting, Session, SessionOptions
from cfl_edge.stream.live import LiveStream


class Model:
    classes = ()

    def predict_batch(self, images, *, reject=None):
        return [Prediction(None, None, None, np.zeros(0, np.float32)) for _ in images]


def echo(verb, arguments):
    return {"said": verb, **arguments}


def test_answers_come_in_the_order_of_the_requests():
    mailbox, done = Mailbox(), []
    futures = [mailbox.submit("label", {"label": name}) for name in "abc"]
    assert not any(future.done() for future in futures)
    mailbox.serve(lambda verb, arguments: done.append(arguments["label"]) or echo(verb, arguments))
    assert done == ["a", "b", "c"]
    assert [future.result(0)["label"] for future in futures] == done


def test_an_error_reaches_whoever_asked_and_nobody_else():
    mailbox = Mailbox()
    wrong, broken, right = (mailbox.submit(verb, {}) for verb in ("wrong", "broken", "right"))

    def do(verb, arguments):
        if verb == "wrong":
            raise DataError("no", hint="yes")
        if verb == "broken":
            raise RuntimeError("a fault of ours")
        return echo(verb, arguments)

    mailbox.serve(do)
    assert isinstance(wrong.exception(0), DataError)
    assert isinstance(broken.exception(0), RuntimeError)
    assert right.result(0) == {"said": "right"}


def test_too_many_are_refused_until_some_are_served():
    mailbox = Mailbox()
    for _ in range(MOST_WAITING):
        mailbox.submit("status", {})
    with pytest.raises(SessionError, match="32 requests wait"):
        mailbox.submit("status", {})
    mailbox.serve(echo)
    mailbox.submit("status", {})


def test_what_a_verb_asks_for_waits_for_the_next_frame():
    mailbox = Mailbox()

    def again(verb, arguments):
        mailbox.submit("again", {})
        return echo(verb, arguments)

    mailbox.submit("again", {})
    mailbox.serve(again)  # ends


def test_a_request_that_was_taken_back_is_not_run():
    mailbox = Mailbox()
    mailbox.submit("remove", {}).cancel()
    mailbox.serve(pytest.fail)


def test_a_session_that_has_ended_refuses_those_that_wait_and_those_that_come():
    mailbox = Mailbox()
    waits, gone = mailbox.submit("save", {}), mailbox.submit("save", {})
    gone.cancel()
    mailbox.close()
    mailbox.close()
    with pytest.raises(SessionError, match="has ended"):
        waits.result(0)
    with pytest.raises(SessionError, match="has ended"):
        mailbox.submit("save", {})
    mailbox.serve(pytest.fail)


def test_a_request_that_the_end_interrupts_does_not_say_that_nothing_was_changed():
    mailbox = Mailbox()
    running, waits = mailbox.submit("rename", {}), mailbox.submit("save", {})

    def interrupted(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mailbox.serve(interrupted)
    mailbox.close()
    with pytest.raises(SessionError, match="in the middle of rename"):
        running.result(0)
    with pytest.raises(SessionError, match="nothing was changed"):
        waits.result(0)


def served(script, do, *, on_step=lambda step, camera: None, **options):
    """Run a session on a camera whose requests `do` serves; return it."""
    camera = Camera(*script)
    with (
        LiveStream("cam", camera.open) as stream,
        Interrupts() as interrupts,
    ):
        session = Session(Predicting(Model()), SessionOptions(**options), interrupts=interrupts)
        session.serve = do
        for step in session.steps(stream):
            on_step(step, camera)
    return session


def test_a_silent_camera_does_not_keep_a_verb_waiting():
    mailbox, answers, threads = Mailbox(), [], set()

    def do(verb, arguments):
        threads.add(threading.current_thread())
        return echo(verb, arguments)

    def ask(camera):
        time.sleep(0.1)  # the session waits for a frame by now
        answers.append(mailbox.submit("save", {}).result(30))
        camera.send(shot(2))

    def on_step(step, camera):
        if step.seen == 1:
            threading.Thread(target=ask, args=[camera]).start()

    served([shot(1)], lambda: mailbox.serve(do), on_step=on_step, max_frames=2)
    assert answers == [echo("save", {})]
    assert threads == {threading.current_thread()}


@pytest.mark.parametrize("while_waiting", [True, False])
def test_a_signal_ends_the_session_after_the_verb_that_runs(while_waiting):
    done = []

    def serve():
        if not done:
            done.append("begun")
            signal.raise_signal(signal.SIGINT)
            done.append("complete")

    script = [shot(1)] if while_waiting else [shot(1), shot(2), shot(3)]
    session = served(script, serve)
    assert done == ["begun", "complete"]
    assert session.interrupted


def test_a_label_goes_to_the_zone_that_it_names_and_everything_else_to_the_one_that_was_asked():
    zones = {"door": Mailbox(), "bin": Mailbox()}
    for one in zones.values():
        one.zones = zones
    asked = [
        ("label", {"label": "door/open"}),
        ("label_frame", {"label": "door/a/b", "frame": 3}),
        ("label", {"label": "door/"}),
        ("label", {"label": "open"}),
        ("label", {"label": None}),
        ("undo", {"hold": True}),
    ]
    for verb, arguments in asked:
        zones["bin"].submit(verb, arguments)
    done = {name: [] for name in zones}
    for name, one in zones.items():
        one.serve(lambda verb, arguments, name=name: done[name].append((verb, arguments)) or {})
    assert done["door"] == [
        ("label", {"label": "open"}),
        ("label_frame", {"label": "a/b", "frame": 3}),
        ("label", {"label": None}),
    ]
    assert done["bin"] == asked[3:]
    for mistyped in ("window/open", "Door/open", "/open"):
        with pytest.raises(UsageError, match="a zone of this camera: door, bin"):
            zones["bin"].submit("label", {"label": mistyped})
    alone = Mailbox()
    alone.submit("label", {"label": "door/open"})
    alone.serve(lambda verb, arguments: done["door"].append((verb, arguments)) or {})
    assert done["door"][-1] == asked[0]
