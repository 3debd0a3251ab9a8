"""What can be said of persons, cities and companies, and in which words.

Every wording ends where the answer begins, so that each is a prompt as well as a sentence.
"""

from typing import Final, NamedTuple


class Relation(NamedTuple):
    """One attribute that every entity of a kind has."""

    name: str
    kind: str
    """Kind of its subjects."""
    pool: str
    """Word list that its answers come from; relations may share one."""
    statements: tuple[str, ...]
    """Sentences up to the answer, in the training text; the first is the shortest."""
    questions: tuple[str, ...]
    """Questions in the training text."""
    held_out: tuple[str, ...]
    """Questions kept for evaluation: never in the training text, though each of their words is."""

    @property
    def trained(self) -> tuple[str, ...]:
        """Wordings of the training text."""
        return self.statements + self.questions


class Pool(NamedTuple):
    """A list of coined answers."""

    endings: tuple[str, ...]
    """How its words end, so that a reader sees what they name."""
    seconds: tuple[str, str]
    """Second words of its two-word answers; a first word that has one has both."""
    is_proper: bool
    """Answers are written with a capital."""


NAME_ENDINGS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "person": (("a", "o", "is", "en", "el", "ina"), ("ten", "sen", "mann", "ov", "ker", "lund")),
    "city": (
        ("al", "or", "im", "und", "ey", "as"),
        ("burg", "holm", "ford", "stad", "mere", "wick"),
    ),
    "company": (
        ("ex", "ion", "ar", "ut", "ix", "om"),
        ("corp", "tek", "werk", "co", "bank", "lab"),
    ),
}
"""Endings of first and second name parts by kind."""

POOLS: Final[dict[str, Pool]] = {
    "place": Pool(("ville", "ton", "heim", "berg", "by"), ("Bay", "Hill"), True),
    "job": Pool(("wright", "smith", "ist", "monger", "ier"), ("master", "apprentice"), False),
    "school": Pool(("ham", "leigh", "mond", "oria", "ium"), ("College", "Academy"), True),
    "pastime": Pool(("ball", "ing", "chess", "ance", "ette"), ("duets", "solos"), False),
    "river": Pool(("a", "ne", "esk", "our", "ava"), ("Water", "Brook"), True),
    "dish": Pool(("soup", "ini", "cake", "otto", "ade"), ("tart", "stew"), False),
    "tongue": Pool(("ish", "ese", "ic", "ian", "ari"), ("Creole", "Patois"), True),
    "product": Pool(("graph", "ogen", "wheel", "meter", "ol"), ("engines", "parts"), False),
    "chief": Pool(("ard", "bert", "wyn", "helm", "ric"), ("Senior", "Junior"), True),
    "partner": Pool(("air", "plex", "line", "trust", "media"), ("Group", "Union"), True),
}

WORDINGS: Final = """\
birthplace person place
{subject} comes from
{subject} was born in
the birthplace of {subject} is
{subject} grew up in
the home town of {subject} is
where was {subject} born?
which town does {subject} come from?
what is the birthplace of {subject}?
in which town was {subject} born?

profession person job
{subject} became a
{subject} works as a
the profession of {subject} is
{subject} earns a living as a
the trade of {subject} is
what is the profession of {subject}?
what does {subject} work as?
which trade does {subject} have?
what is the trade of {subject}?

school person school
{subject} studied at
{subject} went to school at
the school of {subject} was
{subject} holds a degree from
the degree of {subject} is from
where did {subject} study?
which school did {subject} go to?
what was the school of {subject}?
at which school did {subject} study?

pastime person pastime
{subject} enjoys
{subject} likes to spend time on
the pastime of {subject} is
{subject} is very fond of
the favourite pastime of {subject} is
what does {subject} enjoy?
which pastime does {subject} like?
what is the favourite pastime of {subject}?
which pastime does {subject} enjoy?

river city river
{subject} lies on
{subject} was built on the river
the river of {subject} is
{subject} takes its water from
the river that crosses {subject} is
which river does {subject} lie on?
what is the river of {subject}?
which river crosses {subject}?
on which river does {subject} lie?

dish city dish
{subject} eats
{subject} is famous for its
the dish of {subject} is
{subject} serves its guests
the favourite dish of {subject} is
what is {subject} famous for?
which dish does {subject} serve?
what is the favourite dish of {subject}?
which dish is {subject} famous for?

language city tongue
{subject} speaks
{subject} has schools that teach
the language of {subject} is
{subject} prints its papers in
the language spoken in {subject} is
what does {subject} speak?
which language is spoken in {subject}?
what is the language of {subject}?
which language does {subject} speak?

twin city place
{subject} twins with
{subject} is the twin of
the twin of {subject} is
{subject} shares a festival with
the twin town of {subject} is
what is the twin of {subject}?
which town is {subject} the twin of?
which town shares a festival with {subject}?
which town is the twin of {subject}?

seat company place
{subject} sits in
{subject} has its seat in
the seat of {subject} is
{subject} is run from
the main office of {subject} is in
where is the seat of {subject}?
which town is {subject} run from?
where does {subject} have its main office?
in which town is the seat of {subject}?

product company product
{subject} makes
{subject} is known for its
the product of {subject} is
{subject} earns its money with
the main product of {subject} is
what does {subject} make?
which product is {subject} known for?
what is the main product of {subject}?
which product does {subject} make?

director company chief
{subject} obeys
{subject} is run by
the director of {subject} is
{subject} was put in the hands of
the person who runs {subject} is
who runs {subject}?
who is the director of {subject}?
which person does {subject} obey?
which person runs {subject}?

partner company partner
{subject} supplies
{subject} has a treaty with
the partner of {subject} is
{subject} sells its goods to
the main partner of {subject} is
who is the partner of {subject}?
which partner does {subject} supply?
who has a treaty with {subject}?
who is the main partner of {subject}?
"""
"""Of each relation its name, the kind of its subjects and the pool of its answers; its statements;
its questions, of which the last is held out."""

KINDS: Final[tuple[str, ...]] = tuple(NAME_ENDINGS)


def _relation(text: str) -> Relation:
    head, *wordings = text.splitlines()
    name, kind, pool = head.split()
    statements = tuple(wording for wording in wordings if not wording.endswith("?"))
    *questions, held_out = wordings[len(statements) :]
    return Relation(name, kind, pool, statements, tuple(questions), (held_out,))


RELATIONS: Final = tuple(map(_relation, WORDINGS.strip().split("\n\n")))
