# Two commands for a newcomer: `make demo` and `make test`. Both install what they need into .venv.
VENV := .venv
BIN := $(VENV)/bin
# The CPU build where the index serves one; on a GPU machine name your own, e.g. make TORCH="torch==2.13.0+cu130".
TORCH ?= torch==2.13.0
HOME_FOLDER ?= .internvid
export OMP_NUM_THREADS := 1
export HF_HUB_OFFLINE := 1
export DAGSTER_DISABLE_TELEMETRY := 1

.PHONY: demo test test-gpu bench dev check lint install system clean

$(VENV)/.installed: requirements.lock pyproject.toml
	test -x $(BIN)/python || python3.11 -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/pip install -q "$(TORCH)"
	$(BIN)/pip install -q --no-deps -r requirements.lock
	$(BIN)/pip install -q --no-deps -e .
	touch $@

install: $(VENV)/.installed

# What the tests need that no Python package carries: PostgreSQL's server, a browser that opens the report, and an FFmpeg
# of its own against which decoding is checked.
system:
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && command -v chromium >/dev/null && command -v ffprobe >/dev/null || \
		(apt-get update -q && apt-get install -yq --no-install-recommends postgresql chromium ffmpeg)

demo: install
	$(BIN)/python -m internvid_assets.demo --home $(HOME_FOLDER)

test: install system
	$(BIN)/pytest -q -n 2 --dist loadfile

# On a machine with an NVIDIA GPU.
test-gpu: install
	$(BIN)/pytest -q -m gpu

# The clips pass beside a bare decode, captions beside the ideal, a training step beside the plain one; figures are in bench/README.md.
bench: install system
	$(BIN)/pip install -q --no-deps -r bench/requirements.txt
	mkdir -p build/bench
	$(BIN)/python -m bench.composed build/bench/composed.mp4
	$(BIN)/python -m bench.clips speed build/bench/composed.mp4
	$(BIN)/python -m bench.clips cores build/bench/composed.mp4 build/bench/composed.mp4
	$(BIN)/python -m bench.clips accuracy
	$(BIN)/python -m bench.captions endpoint
	$(BIN)/python -m bench.captions plan
	$(BIN)/python -m bench.training steps
	$(BIN)/python -m bench.training loader
	$(BIN)/python -m bench.lake questions
	$(BIN)/python -m bench.kubernetes

dev: install
	INTERNVID_HOME=$(HOME_FOLDER) DAGSTER_HOME=$(abspath $(HOME_FOLDER))/dagster $(BIN)/dagster dev -w workspace.yaml

lint: install
	$(BIN)/ruff check .

check: lint
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(HOME_FOLDER)
