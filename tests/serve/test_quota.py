import subprocess
import sys
from pathlib import Path

import pytest

from serve.keys import make
from serve.quota import Quota

_, FEW = make("few", ["read"], 5)
_, OTHER = make("other", ["read"], 5)
_, ENDLESS = make("endless", ["read"], 0)

TAKE = """
import sys
from pathlib import Path
from serve.keys import Key
from serve.quota import Quota
quota, key = Quota(Path(sys.argv[1])), Key.parse(sys.argv[2])
print(sum(quota.take(key) is None for _ in range(400)))
"""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_sixth_of_five_waits_for_the_next_minute_and_another_key_does_not(tmp_path: Path):
    clock = Clock()
    quota = Quota(tmp_path / "quota", clock)
    assert [quota.take(FEW) for _ in range(5)] == [None] * 5
    clock.now += 10
    assert quota.take(FEW) == pytest.approx(50)
    assert quota.take(OTHER) is None
    clock.now += 50
    assert [quota.take(FEW) is None for _ in range(6)] == [True] * 5 + [False]
    quota.close()


def test_a_key_without_a_limit_is_not_counted(tmp_path: Path):
    quota = Quota(tmp_path / "quota")
    assert all(quota.take(ENDLESS) is None for _ in range(1000))
    assert not (tmp_path / "quota").exists()


def test_processes_share_the_count_exactly(tmp_path: Path):
    _, key = make("shared", ["read"], 500)
    command = [sys.executable, "-c", TAKE, str(tmp_path / "quota"), key.line()]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    passed = [int(process.communicate(timeout=60)[0]) for process in running]
    assert sum(passed) == 500, passed
