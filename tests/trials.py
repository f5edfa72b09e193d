"""Trials of ONNX files in processes that are forked from one that has loaded what they need."""

import os
import pickle
import subprocess
import sys
import threading

from cfl_edge.onnx import trial
from cfl_edge.onnx.child import PACKAGES

RUN_CHILD = trial.run_child  # which the tests replace

# Its children are forked before it has any thread. A child answers as `python -m MODULE` does.
SERVER = """
import os, pickle, runpy, sys, traceback
import numpy, onnx, onnxruntime, cfl_edge.onnx.inference

def try_one(folder, module, words):
    os.chdir(folder)
    sys.argv = [module, *words]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as exit:
        code = exit.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
while True:
    try:
        folder, module, words, request = pickle.load(requests)
    except EOFError:
        break
    files = [os.memfd_create(name) for name in ("stdin", "stdout", "stderr")]
    os.write(files[0], request)
    os.lseek(files[0], 0, os.SEEK_SET)
    child = os.fork()
    if not child:
        os.setsid()
        for number, file in enumerate(files):
            os.dup2(file, number)
        try_one(folder, module, words)
    _, status = os.waitpid(child, 0)
    said = [os.pread(file, os.fstat(file).st_size, 0) for file in files[1:]]
    for file in files:
        os.close(file)
    pickle.dump((os.waitstatus_to_exitcode(status), *said), answers)
    answers.flush()
"""


class Trials:
    """What stands for `run_child` of `cfl_edge.onnx.trial`: 0.05 s for a trial, not 0.4 s."""

    def __init__(self):
        self._server, self._lock = None, threading.Lock()

    def run(self, module, words, request):
        """Run a module on a request, and return what its process left."""
        with self._lock:
            try:
                if self._server is None:
                    self._server = subprocess.Popen(
                        [sys.executable, "-c", SERVER],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        cwd=PACKAGES,
                        start_new_session=True,
                    )
                asked = (os.getcwd(), module, [*map(str, words)], request)
                pickle.dump(asked, self._server.stdin)
                self._server.stdin.flush()
                code, out, err = pickle.load(self._server.stdout)
            except BaseException:  # a signal came: its answer would be taken for the next one's
                self.end()
                raise
        return subprocess.CompletedProcess([module, *words], code, out, err)

    def end(self):
        """End the process that waits for trials."""
        if self._server is not None:
            self._server.kill()
            self._server.communicate()
            self._server = None
