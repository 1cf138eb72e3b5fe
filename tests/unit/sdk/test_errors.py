# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import inspect
import re

import atoll
from atoll import errors


def _tree(root: type[errors.Error]) -> list[type[errors.Error]]:
    return [found for child in root.__subclasses__() for found in (child, *_tree(child))]


def test_every_class_has_a_code_of_its_own() -> None:
    codes = [error_type.code for error_type in _tree(errors.Error)]

    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[A-Z_]+", code) for code in codes)


def test_every_class_is_in_the_drawn_tree_and_public() -> None:
    drawn = set(re.findall(r"── (\w+)", errors.__doc__ or ""))
    names = {error_type.__name__ for error_type in _tree(errors.Error)}

    assert drawn == names
    assert names | {"Error"} <= set(atoll.__all__)


def test_every_class_says_what_it_means() -> None:
    assert all(inspect.getdoc(error_type) for error_type in _tree(errors.Error))


def test_public_names_are_sorted_and_exist() -> None:
    assert atoll.__all__ == sorted(atoll.__all__)
    assert all(hasattr(atoll, name) for name in atoll.__all__)
