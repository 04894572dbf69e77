"""How long `isthmus --help` takes beside a bare `python -c pass`, and which of its imports cost the most."""

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

RUNS = 15


def seconds(command: Sequence[str]) -> list[float]:
    """Wall time of each of RUNS runs, after one that warms the page cache."""
    times = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return times[1:]


def slowest_imports(count: int) -> list[tuple[int, str]]:
    """The own time of the slowest imports of --help, in microseconds."""
    command = [sys.executable, "-X", "importtime", "-m", "isthmus", "--help"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stderr.splitlines()
    rows = [line.removeprefix("import time:").split("|") for line in lines if line.startswith("import time:")]
    return sorted(((int(own), name.strip()) for own, _, name in rows if own.strip().isdigit()), reverse=True)[:count]


def main() -> None:
    """Print the table."""
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "isthmus --help": [sys.executable, "-m", "isthmus", "--help"],
    }
    print("| command | median s | fastest s | slowest s |\n|---|---|---|---|")
    for name, command in commands.items():
        times = seconds(command)
        print(f"| `{name}` | {statistics.median(times):.3f} | {min(times):.3f} | {max(times):.3f} |")
    print("\nslowest imports of --help (own time):")
    for own, module in slowest_imports(5):
        print(f"  {own / 1000:6.1f} ms  {module}")


if __name__ == "__main__":
    main()
