# Everything runs in its own virtual environment; needs Python >= 3.10 with venv and a C++17 compiler.
#
#   make demo    the mirror on a clip, without camera, screen or PyTorch: writes demo/mirror.mp4
#   make test    the whole test suite
#   make lint    ruff and mypy
#   make bench   what can be measured on a CPU in a few minutes: writes out/bench
#
# TORCH=torch==2.13.0 chooses PyTorch, EXTRAS what is tested beside it, JOBS how many test files run at a time,
# each with up to 4 GB of memory.

PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= torch==2.13.0
EXTRAS ?= dev,datagen,evaluate,export,kernels,openvino,tensorrt-rtx,train,web
JOBS   ?= 2

# OpenCV with windows wants the system's OpenGL; without a display take the headless one.
ifeq ($(shell uname),Linux)
ifeq ($(DISPLAY)$(WAYLAND_DISPLAY),)
export RMGN_OPENCV ?= headless
endif
endif

# Threads that wait sleep: several processes on few cores would else spin against each other.
export OMP_WAIT_POLICY ?= PASSIVE

BIN := $(VENV)/bin
SOURCES := pyproject.toml setup.py $(wildcard runtime/cpp/*)

.PHONY: demo test lint bench clean

demo: $(VENV)/.demo
	mkdir -p demo
	$(BIN)/python runtime/mirror.py --source models/clip.mp4 --headless --record demo/mirror.mp4 \
	    --stats demo/stats.json

# In the files' order: in that of their numbers of tests, the longest test would come last and alone.
test: $(VENV)/.test
	$(BIN)/python -m pytest -m "slow or not slow" -n $(JOBS) --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks.frame_path --out out/bench/frame_path
	$(BIN)/python -m benchmarks.model_cost --preset lite
	$(BIN)/python -m benchmarks.engines --presets lite --out out/bench/engines

clean:
	rm -rf $(VENV) build demo *.egg-info runtime/*.so

$(VENV)/.pip:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

# PyTorch first and by its own line, so that the extras' looser bounds do not choose another build.
$(VENV)/.torch: $(VENV)/.pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	touch $@

$(VENV)/.demo: $(VENV)/.pip $(SOURCES)
	$(BIN)/python -m pip install --quiet -e '.[openvino]'
	touch $@

$(VENV)/.test: $(VENV)/.torch $(SOURCES)
	$(BIN)/python -m pip install --quiet -e '.[$(EXTRAS)]'
	touch $@ $(VENV)/.demo
