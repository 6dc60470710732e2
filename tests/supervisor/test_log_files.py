from pathlib import Path

from ftwallet.cli.tail import Growing
from ftwallet.supervisor.log_files import keep_short


def test_a_long_log_is_begun_anew_while_its_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with path.open("ab", buffering=0) as writer:
        reader = Growing(path, 0)
        writer.write(b"one\ntwo\n")
        assert reader.new_lines() == ["one", "two"]
        assert not keep_short(path, 8)
        assert keep_short(path, 7)
        writer.write(b"three\n")
        assert path.read_bytes() == b"three\n"
        assert path.with_name("a.log.1").read_bytes() == b"one\ntwo\n"
        assert reader.new_lines() == ["three"]


def test_a_log_that_is_not_there_is_short(tmp_path: Path) -> None:
    assert not keep_short(tmp_path / "b.log")
