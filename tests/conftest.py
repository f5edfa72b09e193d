"""Settings of all tests."""

import os

# As the command line does, before torch is loaded: threads wait without spinning.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
