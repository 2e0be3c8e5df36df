"""The reference made from docstrings shows every public name, each with a docstring of its own."""

import inspect
import warnings
from pathlib import Path

import pytest

from scripts.api_reference import public, write


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        write(folder)
    assert [str(each.message) for each in told] == []
    return folder


def test_every_public_name_is_on_its_page(pages: Path) -> None:
    for module, name in public():
        page = (pages / f"{module.__name__.replace('.', '/')}.html").read_text("utf-8")
        assert f'id="{name}"' in page, f"{module.__name__}.{name}"
    assert (pages / "index.html").exists()


def test_every_public_class_function_and_method_has_a_docstring() -> None:
    bare = []
    for module, name in public():
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            members: list[tuple[str, object]] = [(name, value)]
            if inspect.isclass(value) and value.__module__.startswith("metaq"):
                members += [
                    (f"{name}.{each}", member)
                    for each, member in vars(value).items()
                    if not each.startswith("_") and (inspect.isfunction(member) or isinstance(member, property))
                ]
            bare += [f"{module.__name__}.{each}" for each, member in members if not inspect.getdoc(member)]
    assert bare == []
