"""Work done ahead, in the background."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")

_END = object()


def prefetch(items: Generator[Item], depth: int) -> Generator[Item]:
    """Yield the same items in the same order, up to `depth` of them made ahead by a thread.

    With depth 1 the next item is made while the consumer has the present one: two at a time. What
    the thread raises is raised at the item where it happened. Closing ends the thread and closes
    `items`, after the item that is being made; so does the interpreter's exit.

    >>> list(prefetch((letter for letter in "abc"), depth=2))
    ['a', 'b', 'c']
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        ahead = deque(pool.submit(next, items, _END) for _ in range(depth))
        while (item := ahead.popleft().result()) is not _END:
            ahead.append(pool.submit(next, items, _END))
            yield item  # pyright: ignore[reportReturnType] - all but the end are items
    finally:
        pool.shutdown(cancel_futures=True)
        items.close()
