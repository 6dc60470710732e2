"""`python -m tests.scenarios`: play scenarios, or write down what they come to. See the package's first lines."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.scenarios import runner


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scenarios", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="scenarios (all)")
    parser.add_argument("--update", action="store_true", help="write the traces that are seen now into the files")
    told = parser.parse_args()
    failed = 0
    paths = told.files or runner.files()
    for path in paths:
        before = path.read_text(encoding="utf-8")
        seen = runner.play(before)
        if seen.violation is not None:
            failed += 1
            print(f"{path.name}: {seen.violation}")
        if seen.text == before:
            continue
        if told.update:
            path.write_text(seen.text, encoding="utf-8")
            print(f"{path.name}: written")
        else:
            failed += 1
            print(runner.difference(path.name, before, seen.text))
    print(f"{len(paths)} played, {failed or 'none'} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
