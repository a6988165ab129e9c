# Everything a newcomer needs: make demo | test | check | fix | bench. Each sets up .venv first.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.ready

.PHONY: setup demo test check fix bench lock proto clean

setup: $(STAMP)

$(STAMP): requirements/lock.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Osiris Mesh needs Python 3.11 or newer; set PYTHON=python3.x") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/lock.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: setup
	$(BIN)/osiris-mesh demo

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m bench all --json

# Resolves the newest allowed versions anew (with the uv of an earlier setup, or any on PATH); review the difference before committing it.
lock:
	PATH="$(BIN):$$PATH" uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --all-extras pyproject.toml -o requirements/lock.txt

# Generates the committed code of the gRPC face anew; needed only after a change of the .proto file.
proto: setup
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. osiris_mesh/gateway/grpc/osiris.proto

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache dist build
