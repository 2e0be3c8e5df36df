# Every target makes .venv by itself and installs what it needs, once; as root also the Debian packages that are missing.
PYTHON ?= python3

help:  ## say what the targets do
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1	\2/p' Makefile

demo: .venv/.ready-demo  ## run a broker through its main job, with a kill half-way; needs no root
	.venv/bin/python -m demo.demo

test: .venv/.ready-test  ## run all tests but the long forms
	@scripts/test.sh -m "not soak"

soak: .venv/.ready-test  ## run the long forms of the tests
	@scripts/test.sh -m soak --timeout 3600 -o faulthandler_timeout=4000
	@METAQ_EXAMPLES=1000 scripts/test.sh -m "not soak" --timeout 3600 -o faulthandler_timeout=4000 tests/unit tests/simulation

check: .venv/.ready-check  ## format, lint, types, import order, budgets
	@scripts/check.sh

docs: .venv/.ready-docs  ## write the reference of the client, from its docstrings, into build/api
	.venv/bin/python -m scripts.api_reference build/api

bench: .venv/.ready-bench  ## measure beside the Java broker and other systems, write docs/benchmarks.md; ARGS="--quick", ARGS=--help
	.venv/bin/python -m bench.run $(ARGS)

clean:  ## remove what these targets made
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

.venv/.ready-%: pyproject.toml scripts/setup.sh scripts/packages.sh bench/peers/requirements.txt
	@PYTHON="$(PYTHON)" scripts/setup.sh $*

.PHONY: help demo test soak check docs bench clean
.SECONDARY:
