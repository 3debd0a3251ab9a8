"""Analyse what one run, bank or evaluation left; `<program> --help` says more of each.

Programs:
    latents          what each latent of a bank fires on in held-out text
    persistence      how long the latents of a bank go on over layers
    positions        whether SAEs at odd positions differ from those at even ones
    predict_errors   a model's errors from its latents, layer by layer
    transfer         fitted detectors on answers of another set or another model
    cases            the eight most instructive answers of an evaluation
    export           an evaluation for a paper: LaTeX, CSV, vector figures
    migrate          import SAE checkpoints and results of the earlier codes
"""

import sys
from collections.abc import Sequence
from importlib import import_module

from ghosttrack.command import parser, run

PROGRAMS = (
    "latents",
    "persistence",
    "positions",
    "predict_errors",
    "transfer",
    "cases",
    "export",
    "migrate",
)


def main(arguments: Sequence[str]) -> None:
    """Hand the arguments to the program that the first of them names."""
    options = parser("ghosttrack.analysis", __doc__)
    options.add_argument("program", choices=PROGRAMS)
    name = options.parse_args(arguments[:1]).program
    run(lambda: import_module(f"ghosttrack.analysis.{name}").main(list(arguments[1:])))


if __name__ == "__main__":
    main(sys.argv[1:])
