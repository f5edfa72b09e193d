"""What loading a part of the package brings into a process, and what it must not bring."""

import subprocess
import sys

# In this order, in one process: what a part may load is there for those after it.
PARTS = [
    ("import cfl_edge", "torch numpy onnxruntime av PIL"),
    ("import cfl_edge.config, cfl_edge.cli.declare", "torch numpy av rich"),
    (
        "import cfl_edge.view.reporter, cfl_edge.labels.keys, cfl_edge.labels.frames",
        "torch rich av",
    ),
    (
        "from cfl_edge import open_stream; list(open_stream('demo:?frames=1'))",
        "torch serial firmware_host",
    ),
    ("import cfl_edge.stream.camera.v4l2, cfl_edge.stream.network.stream", "torch"),
    ("import cfl_edge.model.store, cfl_edge.model.lock", "torch"),
    ("import cfl_edge.loop.verbs, cfl_edge.loop.mailbox", "torch"),
    ("import cfl_edge.loop.service_notify", "torch"),
    ("from cfl_edge.doctor.checks import checks; list(checks())", "torch onnxruntime"),
    ("from cfl_edge import Frame, OnnxModel, Prediction", "torch"),
    ("import cfl_edge.onnx.classes, onnx", "torch"),
    ("import cfl_edge.serve.run", "torch starlette uvicorn h11 anyio"),
    ("import cfl_edge.loop.learn", "starlette uvicorn h11 anyio"),
]
LOAD = """
import sys
for code, names in {parts}:
    exec(code)
    loaded = [name for name in names.split() if name in sys.modules]
    assert not loaded, f"{{code}} loads {{loaded}}"
"""


def test_no_part_loads_what_it_does_not_need():
    """A board without torch predicts, and one with little memory loads what it uses alone."""
    code = LOAD.format(parts=PARTS)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
