#!/usr/bin/env python3
"""What a GPU is needed for, in ten minutes at most: `make gpu DATA=cifar10.npz`.

Tests marked `cuda`; memory and time of a step on the device, by the allocator's peak; conv512 with
CFL and BP on all images of DATA for as many epochs as fit. Each part runs in processes of its own,
none ends another, and what is known is in one JSON file after each. Without a GPU, or with
`--dry-run`, each part says what it would run. Only the standard library is imported here.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMITS_S = {"tests": 100, "bench": 110, "train": 340}
SYSTEMS = ("cfl-conv512", "bp-conv512")
# By the name of the module and of the package: what the parts import, less than the project does.
NEEDED = {
    **{name: name for name in ("cobs", "numpy", "onnx", "onnxruntime", "prometheus_client")},
    **{name: name for name in ("pydantic", "pytest", "pytest_timeout", "rich", "safetensors")},
    **{"PIL": "pillow", "serial": "pyserial", "typer": "typer"},
}
CASES = "inference,cfl,bp"
NETWORKS = (("conv512", 32, 512), ("8x64", 96, 16))  # image in px, batch
FACTS = (
    "import json, torch; found = torch.cuda.is_available(); print(json.dumps({'torch': "
    "torch.__version__, 'gpu': torch.cuda.get_device_name() if found else None}))"
)


def commands(part: str, data: str) -> list[list[str]]:
    """Return what a part runs, in order; where its time is over, the rest is left out."""
    if part == "tests":
        how = ["-q", "--noconftest", "-p", "no:cacheprovider", "-W", "default", "-m", "cuda"]
        return [[sys.executable, "-m", "pytest", *how, "tests/test_cuda.py"]]
    if part == "bench":
        how = f"--device cuda --sweep none --repeats 1 --threads 1 --cases {CASES} --json".split()
        return [
            [
                *(sys.executable, "-m", "cfl_edge", "bench", quantity, "--network", network),
                *("--image", str(image_px), "--batch", str(batch), *how),
            ]
            for network, image_px, batch in NETWORKS
            for quantity in ("memory", "speed")
        ]
    limit_s = str(LIMITS_S[part] // len(SYSTEMS) - 5)  # the start of a process left out
    return [[sys.executable, ".ci/gpu_train.py", data, name, limit_s] for name in SYSTEMS]


def run(command: list[str], limit_s: float, environment: dict[str, str]) -> dict[str, object]:
    """Run a command, and return its exit code, its JSON lines and the end of its other output."""
    begin = time.monotonic()
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            output, _ = process.communicate(timeout=max(1.0, limit_s))
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
    events, others = [], []
    for line in output.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        (events if isinstance(value, dict) else others).append(value or line)
    return {
        "command": shlex.join(command),
        "exit_code": process.returncode,
        "seconds": round(time.monotonic() - begin, 1),
        "events": events,
        "output": others[-40:],
    }


def run_part(part: str, data: str, environment: dict[str, str]) -> list[dict[str, object]]:
    """Run the commands of a part within its time; training that fails is tried without graphs."""
    runs: list[dict[str, object]] = []
    begin, wanted = time.monotonic(), commands(part, data)
    for number, command in enumerate(wanted, 1):
        share = LIMITS_S[part] * number / len(wanted) if part == "train" else LIMITS_S[part]
        left = share - (time.monotonic() - begin)
        runs.append(run(command, left, environment))
        left = share - (time.monotonic() - begin)
        if part == "train" and runs[-1]["exit_code"] and left > 20:
            again = [*command[:-1], str(int(left) - 5), "--eager"]
            runs.append(run(again, left, environment))
    return runs


def environment_with(wheels: Path | None) -> dict[str, str]:
    """Return the environment of the parts; packages of the wheels are unpacked for them alone."""
    paths = [str(ROOT)]
    if wheels is not None:
        site = tempfile.mkdtemp(prefix="cfl-edge-gpu-")
        found = sorted(map(str, wheels.glob("*.whl")))
        how = ["--quiet", "--no-index", "--no-deps", "--target", site]
        subprocess.run([sys.executable, "-m", "pip", "install", *how, *found], check=True)
        sys.path.insert(0, site)
        paths.append(site)
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "4"}


def main() -> int:
    """Run the parts, write the file and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="cifar10.npz", help="images to train on (.npz)")
    parser.add_argument("--wheels", type=Path, help="folder of wheels of packages that are missing")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="file of the results")
    parser.add_argument("--dry-run", action="store_true", help="say what would run")
    options = parser.parse_args()
    environment = environment_with(options.wheels)
    missing = [package for name, package in NEEDED.items() if not importlib.util.find_spec(name)]
    if missing:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        print(f"packages are missing: {', '.join(missing)}", file=sys.stderr)
        print(
            f"try: pip download --only-binary=:all: --python-version {version} -d wheels "
            f"{' '.join(missing)}, and --wheels wheels",
            file=sys.stderr,
        )
        return 2
    facts = subprocess.run(
        [sys.executable, "-c", FACTS], env=environment, capture_output=True, text=True, check=True
    )
    report = {**json.loads(facts.stdout.splitlines()[-1]), "python": sys.version.split()[0]}
    dry = options.dry_run or report["gpu"] is None
    why = "dry run" if options.dry_run else "torch finds no CUDA device"
    data = str(Path(options.data).absolute())
    if not dry and not Path(data).exists():
        print(f"{data} does not exist\ntry: --data FILE.npz", file=sys.stderr)
        return 2
    report["parts"] = parts = {}
    for part, limit_s in LIMITS_S.items():
        if dry:
            wanted = [shlex.join(command) for command in commands(part, data)]
            parts[part] = {"skipped": why, "would_run": wanted}
            print(f"{part}: {why}; would run, in {limit_s} s at most:", *wanted, sep="\n  ")
        else:
            print(f"{part}: {limit_s} s at most", flush=True)
            parts[part] = run_part(part, data, environment)
            for each in parts[part]:
                end = each["events"][-1:] or each["output"][-1:]
                print(f"  exit code {each['exit_code']}, {each['seconds']} s: {end}", flush=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"results: {options.out}")
    return 0 if dry else int(any(each["exit_code"] for runs in parts.values() for each in runs))


if __name__ == "__main__":
    sys.exit(main())
