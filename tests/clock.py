"""A clock that stands still unless a test moves it."""


class Clock:
    """Stands for `time.monotonic`, or for the module `time`."""

    def __init__(self, now_s=1000.0):
        self.now_s = now_s

    def __call__(self):
        return self.now_s

    monotonic = __call__
