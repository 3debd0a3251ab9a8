"""The questions of a run, made or read, as the model is asked them."""

from dataclasses import replace

from ghosttrack.detect_config import DetectProgram
from ghosttrack.errors import ConfigError
from ghosttrack.pipelines.setup import Setup
from ghosttrack.questions.asking import (
    as_chat,
    as_few_shot,
    chosen_kind,
    fitting,
    part_shots,
    templated,
    user_turn,
    with_template,
)
from ghosttrack.questions.config import (
    AUTO,
    AskingKind,
    FileQuestions,
    WorldQuestions,
)
from ghosttrack.questions.names import known
from ghosttrack.questions.sets import QuestionSet, read_questions
from ghosttrack.world.questions import question_set as world_questions


def question_set(setup: Setup[DetectProgram]) -> QuestionSet:
    """Make or read the questions, and keep those of their names that are to be known.

    Raises:
        ConfigError: They cannot be had, or not be asked as `asking` says.
        DataError: They are faulty, or too long.
    """
    asked, config = _asked(setup), setup.config
    return replace(asked, names=known(asked.names, config.interventions.known_names, config.seed))


def _asked(setup: Setup[DetectProgram]) -> QuestionSet:
    """Make the questions of the world, or read those of a file, as the model is asked them."""
    chosen, asking, seed = setup.config.questions, setup.config.asking, setup.config.seed
    if not isinstance(chosen, FileQuestions):
        assert isinstance(chosen, WorldQuestions), chosen
        if asking.kind in (AskingKind.few_shot, AskingKind.chat):
            raise ConfigError(
                f"asking={asking.kind.name} is not for questions=ghostworld, which are asked in the"
                " words that the model was trained on; drop asking="
            )
        asked = world_questions(setup.world, chosen.num, seed)
        return templated(asked, with_template(asking, chosen.template))
    bare = read_questions(chosen)
    kind = chosen_kind(asking, chosen, setup.tokenizer)
    shots = ()
    if kind is not AskingKind.plain and (asking.shots or asking.shots_path):
        shots, bare = part_shots(bare, asking, seed)
    if kind is AskingKind.chat:
        asking = as_chat(asking, shots, setup.tokenizer)
        bare = replace(bare, turn=user_turn(setup.tokenizer))
    else:
        asking = as_few_shot(with_template(asking, chosen.template), shots)
    asked = fitting(templated(bare, asking), setup.tokenizer, setup.n_ctx)
    return asked.drawn(chosen.num, seed)


def asked_about(
    questions: QuestionSet, given: str | None, usual: str, *, is_read: bool
) -> str | None:
    """Say what is asked about answers: what is given, or where it is `auto` the usual text."""
    if given != AUTO:
        return given
    return questions.turn.replace("{text}", usual) if is_read else None
