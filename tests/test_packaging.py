"""What is shipped: exact pins that agree with each other, and nothing at the top level beside the package."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINS = (ROOT / "requirements.txt").read_text().splitlines()


def test_requirements_are_exact_pins_of_names_and_versions_alone() -> None:
    assert sorted(set(PINS)) == PINS
    for line in PINS:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line)


def test_requirements_hold_every_dependency_of_the_project() -> None:
    for requirement in PROJECT["project"]["dependencies"]:
        assert re.sub(r"\[.*\]", "", requirement) in PINS


def test_the_wheel_holds_the_package_alone() -> None:
    # An installed top-level module `supervisor` would collide with the well-known package of that name.
    assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["ftwallet"]
    assert PROJECT["project"]["scripts"] == {"ftwallet-run": "ftwallet.cli:main"}
