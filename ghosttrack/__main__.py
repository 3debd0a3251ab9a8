"""Ask a fitted detector, check SAEs, audit scores, and look after what was built.

Examples:
    ghosttrack ask "Where was Divo Nainov born?"
    ghosttrack ask --file prompts.jsonl model=gpt2-small
    ghosttrack check outputs/ghostworld/saes
    ghosttrack audit scores.csv --out audit
    ghosttrack list outputs
    ghosttrack clean outputs --yes

`python -m ghosttrack` is the same command.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghosttrack.command import place
from ghosttrack.command import run as in_one_line
from ghosttrack.errors import ConfigError, check_share, check_text

if TYPE_CHECKING:
    from omegaconf import DictConfig

CONF = Path(__file__).parents[1] / "conf"


def main() -> None:
    """Do one command; its faults are one line."""
    in_one_line(_main)


def _main() -> None:
    """Read the command line, options before, between or after words, and do what it says."""
    parser = _parser()
    options, more = parser.parse_known_args()
    words = next((held for name in ("words", "settings") if (held := vars(options).get(name))), [])
    if more and (not words or any(word.startswith("-") for word in more)):
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    words += more
    options.run(options)


def _parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(
        "ghosttrack", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = whole.add_subparsers(required=True, metavar="command")

    def command(name: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        assert run.__doc__ is not None
        parser = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        parser.set_defaults(run=run)
        return parser

    asks = command("ask", ask)
    asks.add_argument("--file", type=place, help="many prompts: .txt, one a line, or .jsonl")
    asks.add_argument(
        "--prevalence",
        type=float,
        help="share of answers that are hallucinated where risks are to hold (default: as learned)",
    )
    asks.add_argument(
        "words",
        nargs="*",
        metavar="prompt|setting=value",
        help="the prompt, where no file is given; then settings of detect.py",
    )
    checks = command("check", check)
    checks.add_argument("folder", type=place, help="SAEs, or a model's folder: its newest bank")
    checks.add_argument("settings", nargs="*", help="settings of train.py: model, corpus, layers")
    audits = command("audit", audit)
    audits.add_argument(
        "path",
        type=place,
        help=".csv with the columns question, answer, label (1: hallucinated), score:<name>, and"
        " where there are some group, split; .json; a folder of evaluations, or a model's",
    )
    audits.add_argument("--out", type=place, help="folder for audit.txt, audit.csv and audit.json")
    audits.add_argument(
        "--precision", type=float, default=0.01, help="claimed of an AUROC (default 0.01)"
    )
    lists = command("list", list_artifacts)
    lists.add_argument("folder", type=place, nargs="?", default=Path("outputs"))
    cleans = command("clean", clean)
    cleans.add_argument("folder", type=place, nargs="?", default=Path("outputs"))
    cleans.add_argument("--yes", action="store_true", help="delete it; else it is only said")
    return whole


def ask(options: argparse.Namespace) -> None:
    """Let the model answer prompts, and say how likely each answer is hallucinated."""
    words: list[str] = options.words
    if options.file is None and not words:
        sys.exit("ask: no prompt; give one in quotes, or --file prompts.jsonl")
    prompts = options.file if options.file is not None else words.pop(0)
    check_text(str(prompts))
    if not str(prompts).strip():
        sys.exit("ask: the prompt is empty; give a text that the model is to go on with")

    from ghosttrack.detect_config import DetectProgram
    from ghosttrack.pipelines.kept import kept_detector
    from ghosttrack.pipelines.made_model import make_model
    from ghosttrack.questions.prompts import bare_prompt, read_prompts

    def task(config: DetectProgram) -> None:
        if config.questions.kind.is_ready:
            raise ConfigError("ask needs a model that answers; drop questions=")
        if options.prevalence is not None:
            check_share("--prevalence", options.prevalence)
        is_file = options.file is not None
        questions = read_prompts(options.file) if is_file else [bare_prompt(prompts)]
        kept = kept_detector(config)
        if kept is None:
            make_model(config)  # torch only once what is asked is right
        from ghosttrack.scoring.ask import answer_and_judge

        answer_and_judge(config, questions, kept, options.prevalence, is_file=is_file)

    _run("ask", "detect", DetectProgram, task, words)


def check(options: argparse.Namespace) -> None:
    """Measure SAEs on held-out tokens, beside what their files claim."""
    from ghosttrack.analysis.runs import newest
    from ghosttrack.config import TrainProgram
    from ghosttrack.pipelines.made_model import make_model

    def task(config: TrainProgram) -> None:
        make_model(config)
        from ghosttrack.pipelines.check import check as measure

        measure(config, newest(options.folder, "saes"))

    _run("check", "train", TrainProgram, task, options.settings)


def audit(options: argparse.Namespace) -> None:
    """Say what a referee would of scores: leaks, labels, intervals, question-only skill."""
    from ghosttrack.analysis.audit import audit as look_at

    look_at(options.path, options.precision, options.out)


def list_artifacts(options: argparse.Namespace) -> None:
    """List what was built: kind, name, size, age, and what it was made from."""
    from ghosttrack.inventory import show

    show(options.folder)


def clean(options: argparse.Namespace) -> None:
    """Say what no run uses and no such artefact was made from, and delete it with --yes."""
    from ghosttrack.inventory import sweep_out

    sweep_out(options.folder, delete=options.yes)


def _run(
    name: str,
    primary: str,
    schema: type[Any],
    task: Callable[[Any], None],
    settings: Sequence[str],
) -> None:
    """Compose a program's settings as Hydra does for the program itself, and do a task with them.

    The command line is as it was while the task runs: ranks of a trainer repeat it.
    """
    import hydra

    from ghosttrack.launch import as_typed, framed, with_settings

    if not CONF.is_dir():
        sys.exit(f"{CONF} is missing; install from a checkout: pip install -e .")
    typed = sys.argv

    @framed
    def whole(cfg: "DictConfig") -> None:
        sys.argv = typed
        if cfg.estimate:
            raise ConfigError(f"estimate=true says nothing of {name}; drop it")
        with_settings(schema, task)(cfg)

    sys.argv = [typed[0], f"hydra.job.name={name}", *settings]
    main = hydra.main(version_base="1.3", config_path=str(CONF), config_name=primary)(whole)
    as_typed(main)()


if __name__ == "__main__":
    main()
