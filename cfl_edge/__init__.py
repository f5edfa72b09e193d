"""Learn to recognise things on the board that sees them, without backpropagation.

Notation, once for the whole package (CFL: Contrastive Forward Learning with label embeddings):

=========  ==============  ================================================================
symbol     in the code     meaning
=========  ==============  ================================================================
N, Z       N, Z            samples in a batch, classes
C, K       C, K            channels of a layer, positions of a layer (height times width)
D          embeddings      label embeddings, (Z, C_D)
h          h               features of a layer, (N, C, K) or (N, C, H, W)
h-bar      h_mean          features averaged over the positions, (N, C)
tau        temperature     divides the similarities of the feature contrastive loss
epsilon    noise           Gaussian noise on the embeddings, standard deviation 1 / C
lambda_1   batch_weight    weight of the batch contrastive loss, Eq. 4
lambda_2   dict_weight     weight of the dictionary contrastive loss, Eq. 6
lambda_3   feat_weight     weight of the feature contrastive loss, Eq. 9
=========  ==============  ================================================================

Example:
    >>> from cfl_edge import Learner, LearnerConfig, open_stream
    >>> learner = Learner(LearnerConfig(backbone="none", layers="8,16", image_px=16))
    >>> for frame in open_stream("demo:?frames=12"):
    ...     prediction = learner.predict_one(frame.image)
    ...     learner.learn_one(frame.image, frame.label)
    >>> learner.frames_learned
    12
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from cfl_edge.defaults import VERSION

if TYPE_CHECKING:
    from cfl_edge.frame.frame import Frame
    from cfl_edge.frame.prediction import Prediction
    from cfl_edge.learner.config import LearnerConfig
    from cfl_edge.learner.learner import Learner
    from cfl_edge.onnx.inference import OnnxModel
    from cfl_edge.stream.open import open_stream
    from cfl_edge.stream.options import StreamOptions

__all__ = [
    "Frame",
    "Learner",
    "LearnerConfig",
    "OnnxModel",
    "Prediction",
    "StreamOptions",
    "open_stream",
]

__version__ = VERSION

_PLACES = {
    "Frame": "cfl_edge.frame.frame",
    "Learner": "cfl_edge.learner.learner",
    "LearnerConfig": "cfl_edge.learner.config",
    "OnnxModel": "cfl_edge.onnx.inference",
    "Prediction": "cfl_edge.frame.prediction",
    "StreamOptions": "cfl_edge.stream.options",
    "open_stream": "cfl_edge.stream.open",
}


# torch's threads wait for each other by spinning; for as long as by default, that makes a frame ten
# or more times slower beside busy programs (DECISIONS.md, "Threads"). Read when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that `import cfl_edge` loads neither torch nor PyAV."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the names of the module, public ones not imported yet among them."""
    return sorted({*globals(), *__all__})
