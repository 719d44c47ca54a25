# Two commands on a fresh machine: `make run` and `make test`. Both need a Python of 3.11 or newer and nothing else.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: run test lint bench proto kernels servers clean

run: $(VENV)/.run ## serve on :9090 with the embedded store
	$(BIN)/promlike serve --config.file=config/promlike.yml $(ARGS)

test: $(VENV)/.dev servers lint ## everything that must hold: format, lint, types, tests
	$(BIN)/pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.dev servers ## the same load and queries against promlike, Prometheus and VictoriaMetrics
	$(BIN)/python -m bench $(ARGS)

proto: $(VENV)/.dev ## generate classes from proto/ (see proto/README.md)
	for part in remote_read remote_write; do $(BIN)/python -m grpc_tools.protoc --proto_path=proto \
		--python_out=promlike/$$part/pb --pyi_out=promlike/$$part/pb proto/$$part*.proto || exit 1; done

kernels: $(VENV)/.run ## compile all kernels into their on-disk cache
	$(BIN)/python -c 'from promlike.kernel import compile_kernels; print(compile_kernels(), "kernels compiled")'

servers: ## the servers that tests and benchmarks start; left out where they cannot be installed
	@sh tests/install-servers

clean:
	rm -rf $(VENV) build dist *.egg-info

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "promlike needs Python 3.11 or newer; name one with PYTHON=…" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ $(VENV)/.run
