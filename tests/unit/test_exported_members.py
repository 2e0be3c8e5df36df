"""`__all__` says what is public, and says all of it."""

import importlib
import importlib.util
from types import ModuleType
from typing import Final

import pytest

PUBLIC: Final = ["metaq", "metaq.client", "metaq.aio", "metaq.sync", "metaq.embedded", "metaq.testing"]
HANDING_ON: Final = {"metaq.client", "metaq.aio"}
WRITTEN: Final = [name for name in PUBLIC if importlib.util.find_spec(name) is not None]


def shown(module: ModuleType) -> set[str]:
    """Return the names without underscore that a user sees in the module, its own submodules and imports apart."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and belongs(value, module.__name__)
    }


def belongs(value: object, module: str) -> bool:
    """Tell whether a module offers this value: it made it, or it is one of those that hand on what others made."""
    origin = getattr(value, "__module__", None)
    return isinstance(origin, str) and (origin == module or (module in HANDING_ON and origin.startswith("metaq.")))


@pytest.mark.parametrize("name", WRITTEN)
def test_everything_a_public_module_shows_is_in_its_all(name: str) -> None:
    module = importlib.import_module(name)
    assert shown(module) - set(getattr(module, "__all__", ())) == set()


@pytest.mark.parametrize("name", WRITTEN)
def test_everything_in_all_can_be_had(name: str) -> None:
    module = importlib.import_module(name)
    exported = list(getattr(module, "__all__", ()))
    assert len(set(exported)) == len(exported)
    assert [member for member in exported if not hasattr(module, member)] == []


@pytest.mark.parametrize("name", [name for name in WRITTEN if name != "metaq.testing"])
def test_a_public_module_has_an_all(name: str) -> None:
    module = importlib.import_module(name)
    assert getattr(module, "__all__", ()), f"{name} offers nothing"
