"""Parity with LM-Polygraph and UQLM, as a table.

Run, where both are installed:
    python -W ignore -m tests.parity
"""

from tests.parity.asked import ask
from tests.parity.compare import compare
from tests.parity.rivals import compare_metrics, methods

HEAD = ("method", "row, or table and column", "AUROC ours", "theirs", "largest difference", "why")


def row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |")


def main() -> None:
    asked = ask()
    chosen = methods(asked.d_vocab)
    row(*HEAD)
    row(*["---"] * len(HEAD))
    for found in compare(asked, chosen):
        method = found.method
        scale = f"theirs is {method.scale}" if method.scale else "-"
        largest = f"{found.largest:.1g}" if found.largest < 1 else f"{found.largest:.1f}"
        aurocs = f"{found.ours:.4f}", f"{found.theirs:.4f}"
        why = method.differs if method.differs and not found.is_same else scale
        row(method.name, f"`{method.row.name}`", *aurocs, largest, why)
    print()
    row("metric", "row", "ours", "theirs")
    row(*["---"] * 4)
    for name, which, ours, theirs in compare_metrics(asked, chosen[:4]):
        row(name, f"`{which}`", f"{ours:.4f}", f"{theirs:.4f}")


if __name__ == "__main__":
    main()
