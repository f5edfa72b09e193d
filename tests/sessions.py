"""A session that learns, put together as `cfl_edge.loop.learn` does, without a model folder."""

from cfl_edge.loop.checkpoints import CHECKPOINT_S, Checkpoints
from cfl_edge.loop.interrupts import Interrupts
from cfl_edge.loop.label_delay import open_ring
from cfl_edge.loop.learning import Learning
from cfl_edge.loop.pace import Pace
from cfl_edge.loop.session import Session, SessionOptions
from cfl_edge.loop.teaching import Teaching


def learn_stream(
    stream,
    labels,
    learner,
    *,
    save,
    writes=None,
    on_step=lambda _: None,
    on_notice=lambda _: None,
    checkpoint_s=CHECKPOINT_S,
    learn_budget_s=None,
    ring=None,
    learn_flagged=False,
    allowed_share=lambda: 1.0,
    **options,
):
    """Learn a stream and return the summary."""
    ring = ring or open_ring(labels)
    learning = Learning(
        learner,
        Teaching(learner, labels, ring, learn_flagged=learn_flagged, on_notice=on_notice),
        Pace(stream.live, learn_budget_s, allowed_share),
        Checkpoints(save, learner, writes, every_s=checkpoint_s, on_notice=on_notice),
    )
    with Interrupts() as interrupts:
        session = Session(learning, SessionOptions(**options), interrupts=interrupts)
        for step in session.steps(stream):
            on_step(step)
    return learning.summary(session)
