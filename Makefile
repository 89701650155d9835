# Everything runs in one environment of its own, made on first use.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Most tests with real sockets wait more than they compute: three for each of two processors keep them busy.
WORKERS ?= 6
# Tests of what a system may lack: sockets, the server's port, a whole test with each transport.
PORTABLE := tests/protocols/datagrams tests/protocols/test_operating_system.py tests/iperfpy/api

# The tests start some hundred programs, each of which would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check checked wheel-check lint types bench truth mtu odd-paths over-time lab-check latency-check ikcp windows portable picture sim blind diff-check abuse fuzz seed setup clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/iperfpy demo

# Everything. Tests that need the machine to themselves follow the others, one at a time, from the files that have some.
test: checked
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m 'not alone' || $(ONCE_MORE)
	$(BIN)/python -m pytest -q -m alone $$(grep -rl --include='test_*.py' 'mark\.alone' tests) || $(ONCE_MORE)

# Tests of sockets, threads and programs may fail because the machine did something else for seconds. Those that failed
# run once more, one at a time (tests/README.md).
ONCE_MORE = { [ $$? = 1 ] && echo 'once more, one at a time:' && $(BIN)/python -m pytest -q --last-failed --last-failed-no-failures=none; }

# Lint, types, and the tests in virtual time that take less than some seconds: no other programs, no waiting.
check: checked
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m 'not live and not interop and not slow and not alone'

# Builds sdist and wheel, installs the wheel alone and runs it from an empty folder.
wheel-check: $(VENV)/.dev-installed
	$(BIN)/python .ci/wheel-check

# mypy uses one processor: the modules are compiled beside it.
checked: $(VENV)/.dev-installed
	$(MAKE) --no-print-directory --jobs=2 lint types $(VENV)/.compiled

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev-installed
	$(BIN)/mypy

# make bench ARGS="--only kcp --rounds 3"
bench: $(VENV)/.bench-installed
	$(BIN)/python -m tests.studies.speed $(ARGS)

# as root: report against wire, over network namespaces. make truth ARGS="--only kcp-bbr"
truth: $(VENV)/.installed
	$(BIN)/python -m tests.studies.wire $(ARGS)

# as root: the size of datagrams on paths that are narrow in the middle. make mtu ARGS="--only 1280"
mtu: $(VENV)/.bench-installed
	$(BIN)/python -m tests.studies.mtu $(ARGS)

# as root: kcp-bbr beside the kernel's BBR on paths that people have. PATHSIM is the folder of an emulator that is
# no part of this tree. make odd-paths PATHSIM=../pathsim ARGS="--only J --runs 1"
odd-paths: $(VENV)/.installed
	$(BIN)/python -m tests.studies.odd_real "$(PATHSIM)" $(ARGS)

# kcp-bbr beside the kernel's BBR over the lab, by time: at a loss step, and under jitter.
over-time: $(VENV)/.bench-installed
	$(BIN)/python -m tests.studies.over_time $(ARGS)

# as root: the lab beside the simulator and beside an emulator of another make, whose folder PATHSIM is.
# make lab-check PATHSIM=../pathsim ARGS="--only loss --runs 1"
lab-check: $(VENV)/.installed
	$(BIN)/python -m tests.studies.lab_check "$(PATHSIM)" $(ARGS)

# messages over udp, kcp and kcp-bbr in the simulator and in the lab: do their latencies agree? As root other work
# disturbs it less. make latency-check ARGS="--only kcp-bbr --runs 1"
latency-check: $(VENV)/.installed
	$(BIN)/python -m tests.studies.latency_check $(ARGS)

# ikcp's own latency test in the simulator, 20 seeds of each mode: its library and ours give the published means
ikcp: $(VENV)/.dev-installed
	$(BIN)/python -m tests.protocols.simulator.ikcp_path

# as root: the README's picture, from the program's own output over a path between namespaces
picture: $(VENV)/.installed
	$(BIN)/python -m tests.studies.wire.picture docs/reverse.svg

# The grid of simulated paths, then odd paths drawn at random. ARGS runs the grid alone, and ODD the odd paths.
# make sim ARGS="--quick", ARGS="--only policer", ARGS="--minutes 30"
# make sim ODD="--seeds 1:41 --cheap", ODD="--only kcp-bbr --worst 20", ODD="--presets --only kcp-bbr"
# BBR without each of its mechanisms: make sim ARGS="--ablation --cheap --most 8 --name ablation-2026-11-29"
sim: $(VENV)/.bench-installed
	$(if $(ODD),,$(BIN)/python -m tests.studies.paths $(ARGS))
	$(if $(ARGS),,$(BIN)/python -m tests.studies.odd_paths $(ODD))

# Diagnosis of drawn paths whose causes are known. make blind ARGS="--seeds 1:51 --cheap --misses"
# The same with real programs in the lab, a minute or two each: make blind ARGS="--lab --seeds 2001:2041 --minutes 30"
blind: $(VENV)/.bench-installed
	$(BIN)/python -m tests.studies.blind $(ARGS)

# `iperfpy diff` on simulated sets of runs: how often are equal ones called different, and true falls found?
# make diff-check ARGS="--quick", ARGS="--pairs 4000 --seed 7"
diff-check: $(VENV)/.dev-installed
	$(BIN)/python -m tests.studies.diff_check $(ARGS)

# Coverage-guided fuzzing of every decoder, 5 minutes each: make fuzz ARGS="--only kcp-rack --seconds 60"
fuzz: $(VENV)/.fuzz-installed
	$(BIN)/python -m tests.studies.fuzz $(ARGS)

# Attacks on a server beside honest tests, two minutes or more; as root other work disturbs it less.
# make abuse ARGS="--seconds 60 --only kcp"
abuse: $(VENV)/.dev-installed
	$(BIN)/python -m tests.studies.abuse $(ARGS)

# kcp and kcp-bbr over a simulated 170 ms path with a queue up and a policer down (results/records/seed.md)
seed: $(VENV)/.dev-installed
	$(BIN)/python -m tests.studies.paths.seed

# The program under a real Windows interpreter, which Wine runs: behaviour and speed.
# make windows ARGS="--no-speed"
windows: $(VENV)/.installed
	$(BIN)/python -m tests.studies.windows $(ARGS)

# The tests that any system must pass, without Linux's features, then the speed of KCP without them.
portable: $(VENV)/.dev-installed
	PYTHONPATH=tests/portable $(BIN)/python -m pytest -q -n $(WORKERS) -m 'not linux and not slow' $(PORTABLE)
	$(BIN)/python -m tests.studies.portable $(ARGS)

setup: $(VENV)/.dev-installed

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.dev-installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(VENV)/.installed $@

# Once for a new clone. Otherwise each worker of pytest would compile all modules and tests by itself.
$(VENV)/.compiled: | $(VENV)/.dev-installed
	$(BIN)/python -m pytest -q --collect-only >$@

$(VENV)/.bench-installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $(VENV)/.installed $@

$(VENV)/.fuzz-installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,fuzz]'
	touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
