"""The table of faults is up to date, and no test carries the id of a row that there is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import fault_table
from tests.fault_table import Holder, Row, Source, collect, read_source, render


def test_the_table_of_faults_is_up_to_date() -> None:
    assert fault_table.main(["--check"]) == 0, "run `python -m tests.fault_table` and commit docs/faults.md"


def test_every_id_in_a_test_s_name_is_a_row() -> None:
    rows = [row.id for group in read_source().groups.values() for row in group]
    assert len(set(rows)) == len(rows)
    unknown = {row_id: tests for row_id, tests in collect().items() if row_id not in rows}
    assert not unknown, "these tests carry ids that docs/faults.toml does not have"


def test_ids_are_read_from_names_in_either_case_and_several_at_once(tmp_path: Path) -> None:
    content = "def test_C1_x(): ...\nasync def test_d1_d2_y(): ...\ndef test_crc32_z(): ...\ndef helper_C3_(): ...\n"
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_one.py").write_text(content)
    one, two = Holder("tests/test_one.py", "test_C1_x"), Holder("tests/test_one.py", "test_d1_d2_y")
    assert collect(tmp_path / "tests") == {"C1": [one], "D1": [two], "D2": [two]}


def test_a_scenario_is_a_test_and_the_table_says_how_it_runs(tmp_path: Path) -> None:
    (tmp_path / "tests" / "scenarios").mkdir(parents=True)
    (tmp_path / "tests" / "scenarios" / "C2_dies.txt").write_text("status\n----\n")
    tests = collect(tmp_path / "tests")
    assert tests == {"C2": [Holder("tests/scenarios/C2_dies.txt", "C2_dies")]}
    table = render(Source("Faults\n", {"Deaths": [Row("C2", "dies", "lives")]}), tests)
    assert "- [C2_dies](../tests/scenarios/C2_dies.txt), how: S\n" in table


def test_a_row_without_a_test_is_not_yet_and_an_open_part_is_told() -> None:
    rows = [Row("C1", "dies", "lives"), Row("C2", "dies", "lives", "the rest")]
    table = render(Source("Faults\n", {"Deaths": rows}), {"C2": [Holder("tests/test_one.py", "test_C2_x")]})
    assert "| C1 | dies | lives | not yet |\n" in table
    assert "| C2 | dies | lives | [1 test](#c2); open: the rest |\n" in table
    assert "- [test_C2_x](../tests/test_one.py)\n" in table
    assert "1 of 2 rows" in table


def test_a_table_that_is_out_of_date_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fault_table, "TABLE", tmp_path / "faults.md")
    assert fault_table.main(["--check"]) == 1
    assert "python -m tests.fault_table" in capsys.readouterr().err
    assert fault_table.main([]) == 0
    assert fault_table.main(["--check"]) == 0
