"""The options of commands whose logic lies below the command line, each declared once.

They load neither torch nor numpy: the rooms that obey them import them, and so does `cli/`.
"""

from cfl_edge.config.learn import LearnSettings, load_settings
from cfl_edge.config.models import EvaluateSettings, Onnx, SplitSettings, UndoSettings
from cfl_edge.config.run import RunSettings

__all__ = [
    "EvaluateSettings",
    "LearnSettings",
    "Onnx",
    "RunSettings",
    "SplitSettings",
    "UndoSettings",
    "load_settings",
]
