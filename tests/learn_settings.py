"""Settings of `learn` as its command makes them: of a file, the environment, and given values."""

import os

from cfl_edge.config.learn import LearnSettings
from cfl_edge.config.settings import load


def load_settings(config=None, **given):
    """Check the values that are not None."""
    given = {key: value for key, value in given.items() if value is not None}
    return load(LearnSettings, given, command="learn", config=config, environ=os.environ)
