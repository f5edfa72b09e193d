# make teach   make teach STREAM=/dev/video0   make learn   make learn STREAM=/dev/video0 LABEL=mug   make test   make bench   make check   make gpu
PYTHON ?= python3
STREAM ?= demo:
MODEL  ?= $(if $(filter demo:%,$(STREAM)),runs/demo,runs/model)
DATA   ?= cifar10.npz
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: teach learn test bench check gpu clean

teach: $(VENV)/pretrained.stamp
	$(BIN)/cfl-edge teach --stream '$(STREAM)' --model '$(if $(filter demo:%,$(STREAM)),runs/demo-by-hand,$(MODEL))'

learn: $(VENV)/learn.stamp
	$(BIN)/cfl-edge learn --stream '$(STREAM)' --model '$(MODEL)' $(if $(LABEL),--label '$(LABEL)')

test: $(VENV)/dev.stamp
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $$(( $$(nproc) + 1 )) --dist worksteal  # some tests wait

bench: $(VENV)/pretrained.stamp
	$(BIN)/cfl-edge bench memory
	$(BIN)/cfl-edge bench speed

# With the Python that has a torch for the GPU; make gpu DATA=cifar10.npz WHEELS=wheels
gpu:
	$(PYTHON) .ci/gpu.py --data '$(DATA)' $(if $(WHEELS),--wheels '$(WHEELS)')

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV)

$(VENV)/%.stamp: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cfl-edge needs Python 3.11 or newer, this is %d.%d: make PYTHON=python3.11" % sys.version_info[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$*]'
	touch $@
