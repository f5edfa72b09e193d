"""Compiling the C implementation and the examples of CFL-Link, for tests."""

import shutil
import subprocess

import pytest
from link_reference import FIRMWARE_HOST

TESTS = FIRMWARE_HOST.parent / "tests"
C = FIRMWARE_HOST / "c"
OPENMV = C / "examples/openmv/cfl_link_openmv.py"
SKETCH = C / "examples/esp32cam/esp32cam.ino"
CC = next(filter(shutil.which, ("cc", "gcc", "clang")), None)
CXX = next(filter(shutil.which, ("c++", "g++", "clang++")), None)
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{C}"]
SANITIZED = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

needs_cc = pytest.mark.skipif(CC is None, reason="no C compiler (cc, gcc or clang)")
needs_cxx = pytest.mark.skipif(
    CC is None or CXX is None, reason="no C++ compiler (c++, g++ or clang++)"
)


def run(*command, stdin: bytes = b"") -> bytes:
    result = subprocess.run(command, input=stdin, capture_output=True, timeout=60)
    assert result.returncode == 0, result.stderr.decode(errors="replace")
    return result.stdout
