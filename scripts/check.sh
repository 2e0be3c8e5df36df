#!/bin/sh
# check.sh : format, lint, types, import order, budgets; stops at the first that fails.
set -eu
cd "$(dirname "$0")/.."
bin=.venv/bin
$bin/ruff format --check .
$bin/ruff check .
$bin/mypy
$bin/lint-imports --no-logo --no-cache
exec $bin/python -m pytest -q tests/unit/test_budgets.py tests/unit/test_imports.py tests/unit/test_exported_members.py
