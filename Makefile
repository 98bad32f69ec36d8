# `make demo` does the main job on real data, `make test` passes the tests; both set up what they need.
PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt
KILLS ?= 200
# The newest change of these decides whether the environment is set up anew.
STAMP := .venv/ready

# Every process would compile what it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check soak bench docs format servers clean

demo: $(STAMP)
	$(BIN)/python examples/flights/demo.py

test: $(STAMP) servers
	$(BIN)/python -m pytest -m "not soak" -n 3 --dist loadfile --no-loadscope-reorder

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/docs/test_names.py

# Goes on where it was interrupted (out/soak), as long as the code is the same; make soak KILLS=1000 kills more.
soak: $(STAMP)
	$(BIN)/python -m pytest -m soak --timeout 7200 --kills $(KILLS)

bench: $(STAMP)
	$(BIN)/python -m benchmarks

docs: $(STAMP)
	$(BIN)/python docs/build.py

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(STAMP): pyproject.toml constraints.txt tests/serving/kserve.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(UV) --editable '.[dev,examples]'
	$(UV) --no-deps --target .venv/kserve --requirement tests/serving/kserve.txt
	touch $(STAMP)

# PostgreSQL and MariaDB, which tests start for themselves; where they aren't there, root installs Debian's.
servers:
	@{ command -v initdb || ls /usr/lib/postgresql/*/bin/initdb; } >/dev/null 2>&1 && command -v mariadbd >/dev/null \
	|| { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	postgresql mariadb-server >/dev/null; }

clean:
	rm -rf .venv out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
