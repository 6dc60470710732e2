"""Every scenario comes to the trace that its text expects; see the package's first lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scenarios import runner
from tests.scenarios.__main__ import main


@pytest.mark.parametrize("path", runner.files(), ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    expected = path.read_text(encoding="utf-8")
    seen = runner.play(expected)
    assert seen.text == expected, (
        f"{path.name} comes to something else; if that is meant: python -m tests.scenarios {path.name} --update\n"
        + runner.difference(path.name, expected, seen.text)
    )
    assert seen.violation is None


def test_a_scenario_comes_to_the_same_every_time() -> None:
    text = runner.files()[0].read_text(encoding="utf-8")
    assert runner.play(text) == runner.play(text)


def test_what_differs_is_shown_and_update_writes_what_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "one.txt"
    path.write_text("# A deposit.\n\ndeposit t1 alice 100\n----\nsomething else\n", encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["scenarios", str(path)])
    assert main() == 1
    told = capsys.readouterr().out
    assert "\n-something else\n+t1: OK, lsn 1" in told
    assert told.endswith("\n1 played, 1 failed\n")
    monkeypatch.setattr("sys.argv", ["scenarios", str(path), "--update"])
    assert main() == 0
    assert "something else" not in path.read_text(encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["scenarios", str(path)])
    assert main() == 0


def test_a_line_that_is_no_command_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no command 'shout'"):
        runner.play("shout\n----\n")
    with pytest.raises(ValueError, match="a line of four dashes is missing"):
        runner.play("status\n")
