"""The public names: declared once for people, once for type checkers, and all of them there."""

import ast
from pathlib import Path

import pytest

import prunesim


def typed_names() -> dict[str, str]:
    """Name -> module, of the imports that type checkers see."""
    tree = ast.parse(Path(prunesim.__file__).read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.name: str(node.module)
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_type_checkers_see_what_is_there():
    assert typed_names() == prunesim._PLACES
    assert list(prunesim._PLACES) == prunesim.__all__ == sorted(prunesim.__all__)
    assert dir(prunesim) == prunesim.__all__
    assert (Path(prunesim.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize("name", prunesim.__all__)
def test_every_name_is_there(name):
    assert getattr(prunesim, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'simulat'"):
        prunesim.simulat  # noqa: B018
