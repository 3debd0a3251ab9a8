"""Tell whether a language model's answer is hallucinated, and what inside the model says so."""

import sys
from types import TracebackType

__version__ = "0.1.0"
PROGRAMS = ("-m", "train.py", "extract.py", "detect.py", "ghosttrack")
"""What is first on the command line of a program, while it imports this; `-m` of `python -m`."""


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End in one line on a Ctrl-C that meets a program outside its frame, as in its imports."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    sys.stderr.write("interrupted\n")
    raise SystemExit(130)


if sys.argv and sys.argv[0].rpartition("/")[2] in PROGRAMS:
    sys.excepthook = _end
