"""The head that a configuration asks for."""

from __future__ import annotations

from cfl_edge.online.heads.head import Head, HeadInputs


def build_head(inputs: HeadInputs) -> Head:
    """Build the head that `LearnerConfig.head` names."""
    from cfl_edge.online.heads.contrastive import ContrastiveHead

    return ContrastiveHead(inputs)
