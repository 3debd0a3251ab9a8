import signal
import subprocess
import sys
import threading
import time

import pytest

from ghosttrack.data.source import prefetch

LEFT_OPEN = """
import time
from ghosttrack.data.source import prefetch

def slow():
    for number in range(100_000):
        time.sleep(0.01)
        yield number

outer = prefetch(prefetch(slow(), 1), 2)
print(next(outer), flush=True)
"""
"""Two threads, one waiting for the other, that nobody closes."""


def numbers(n: int, made: list[int], fail_at: int = -1):
    try:
        for number in range(n):
            if number == fail_at:
                raise KeyError("broken")
            made.append(number)
            yield number
    finally:
        made.append(-1)


@pytest.mark.parametrize("depth", [1, 3, 20])
def test_items_come_in_order_and_each_once(depth):
    assert list(prefetch(numbers(9, []), depth)) == list(range(9))


@pytest.mark.parametrize("depth", [1, 3])
def test_items_are_made_ahead_but_not_more_than_that(depth):
    made: list[int] = []
    items = prefetch(numbers(100, made), depth)
    for taken in range(1, 6):
        next(items)
        deadline = time.monotonic() + 60
        while len(made) < taken + depth and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.01)
        assert len(made) == taken + depth
    items.close()


def test_what_goes_wrong_is_raised_where_it_happened():
    items = prefetch(numbers(9, [], fail_at=4), depth=3)
    got = []
    with pytest.raises(KeyError, match="broken"):
        got.extend(items)
    assert got == [0, 1, 2, 3]


def test_closing_ends_the_thread_and_closes_the_items():
    before, made = threading.active_count(), []
    source = numbers(100, made)
    items = prefetch(source, depth=2)
    next(items)
    assert threading.active_count() == before + 1
    items.close()
    assert threading.active_count() == before
    assert made[-1] == -1


def test_a_program_that_leaves_it_open_ends():
    result = subprocess.run(
        [sys.executable, "-c", LEFT_OPEN], capture_output=True, text=True, check=False, timeout=60
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "0\n", "")


def test_ctrl_c_ends_a_program_that_waits():
    with subprocess.Popen(
        [sys.executable, "-c", LEFT_OPEN + "\nfor _ in outer: pass"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "0\n"
            process.send_signal(signal.SIGINT)
            _, complaints = process.communicate(timeout=60)  # all the items would take 1,000 s
        finally:
            process.kill()
    assert process.returncode != 0
    assert complaints.splitlines()[-1] == "KeyboardInterrupt"
