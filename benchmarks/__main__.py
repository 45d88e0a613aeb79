"""`python -m benchmarks [NAME ...]`: run all benchmarks, or some, and write benchmarks/results/NAME.json and .csv."""

import sys
import time
from pathlib import Path

from benchmarks import drawing, lessons, tour
from minidiff.evaluation import results

BENCHMARKS = {"lessons": lessons, "tour": tour, "drawing": drawing}  # memory first: a child inherits its parent's peak
FOLDER = Path(__file__).parent / "results"


def main(names: list[str]) -> None:
    if unknown := set(names) - set(BENCHMARKS):
        sys.exit(f"benchmarks: there is no {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    for name in names or BENCHMARKS:
        start = time.perf_counter()
        rows = BENCHMARKS[name].measure()
        seconds = round(time.perf_counter() - start, 1)
        results.write(results.Results(name, f"python -m benchmarks {name}", rows, seconds=seconds), FOLDER)
        for row in rows:
            print(f"{row.name:40s} {row.value:10.4g} {row.unit}")


if __name__ == "__main__":
    main(sys.argv[1:])
