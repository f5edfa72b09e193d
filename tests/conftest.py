"""Settings of all tests; the fixtures that they share are in `shared_fixtures.py`."""

import gc
import os
import re
import signal
import sys

from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

# As the command line does, before torch is loaded: threads spin for a moment only.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# Compiling all tests takes 8 s of processor time in each of pytest's processes.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Of the shell: colours and width of help, a proxy for 127.0.0.1, settings of every command.
OF_THE_SHELL = re.compile(
    r"(FORCE|NO|PY)_COLORS?|GITHUB_ACTIONS|COLUMNS|LINES|TERMINAL_WIDTH|TTY_(COMPATIBLE|INTERACTIVE)"
    r"|\w+_PROXY|CFL_EDGE_(?!(DATA|VM|POWER_CUTS|SIMULATED_HOURS)$)\w+"
)
for variable in list(os.environ):
    if OF_THE_SHELL.fullmatch(variable.upper()):
        del os.environ[variable]

# Under nohup a hangup would be ignored, in the background of a script Ctrl-C.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

# On a busy machine examples come slowly, which says nothing about the code.
hypothesis_settings.register_profile(
    "busy", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("busy")

# What is imported stays: the collector need not look at it, neither now nor in a test.
gc.disable()

collect_ignore = ["fault_sweep.py"]  # a script: test_faults.py starts it


def pytest_configure(config):
    """Load the fixtures, and torch with them, unless other processes run the tests."""
    if hasattr(config, "workerinput") or config.getoption("dist", "no") == "no":
        config.pluginmanager.import_plugin("shared_fixtures")


def pytest_collection_finish():
    gc.freeze()
    gc.enable()
