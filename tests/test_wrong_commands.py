"""Commands that are wrong, and what each is answered."""

import pytest
from hydra.errors import HydraException

from ghosttrack.config import load
from ghosttrack.errors import ConfigError
from ghosttrack.evaluation.roster import check_names
from ghosttrack.typed import check_old_names, composing, literal
from tests.support.settings import PROGRAMS, composed

TABLE = """\
train sae.kk=64 => Could not override 'sae.kk'.
train +sae.kk=64 => sae.kk is not a setting; did you mean sae.k?
train sae.k=abc => Error merging override sae.k=abc
train sae.k=9999 => sae.k must be in 1..sae.d_sae=512, got 9999
train sae.k=0 => sae.k must be in 1..sae.d_sae=512, got 0
train sae.k=1.5 => Error merging override sae.k=1.5
train sae.k=null => Error merging override sae.k=null
train sae=topkk => Could not find 'sae/topkk'
train sae.d_sae=0 => sae.d_sae must be at least 1, got 0
train sae.d_sae=x => Error merging override sae.d_sae=x
train sae.batch_size=0 => sae.batch_size must be at least 1, got 0
train sae.lr=0 => Could not override 'sae.lr'.
train sae.seed=x => Error merging override sae.seed=x
train sae.architecture=relu => Error merging override sae.architecture=relu
train sae.architecture= => Error merging override sae.architecture=
train sae.dead_after_tokens=0 => sae.dead_after_tokens must be at least 1, got 0
train sae.kernels=cuda => Error merging override sae.kernels=cuda
train trainer.max_step=3 => Could not override 'trainer.max_step'.
train trainer=tpu => Could not find 'trainer/tpu'
train train.source=disk => Error merging override train.source=disk
train train.checkpoint_every=0 => train.checkpoint_every must be at least 1, got 0
train train.checkpoint_minutes=0 => train.checkpoint_minutes must be above 0, got 0
train train.precision=fp8 => Error merging override train.precision=fp8
train train.buffer_tokens=0 => train.buffer_tokens must be at least 1, got 0
train logger=tensorboard => Could not find 'logger/tensorboard'
train model=gpt5 => Could not find 'model/gpt5'
train model.name= => model.name must be a plain folder name, got ''
train model.name=a/b => model.name must be a plain folder name, got 'a/b'
train model.name=.hidden => model.name must be a plain folder name, got '.hidden'
train model.dtype=int8 => Error merging override model.dtype=int8
train model.context=0 => model.context must be at least 1, got 0
train model.context=long => Error merging override model.context=long
train corpus=wiki => Could not find 'corpus/wiki'
train corpus=text => corpus.path is required; set corpus.path=...
train corpus=activations => corpus.path is required; set corpus.path=...
train corpus.num_tokens=0 => corpus.num_tokens must be at least 1, got 0
train corpus.heldout_tokens=0 => corpus.heldout_tokens must be at least 1, got 0
train corpus.num_tokens=many => Error merging override corpus.num_tokens=many
train corpus.packing=tight => Error merging override corpus.packing=tight
train corpus.name=a/b => corpus.name must be a plain folder name, got 'a/b'
train corpus.kind=text => corpus.kind=text goes with corpus=text; leave it to that
train corpus=text | corpus.path=x.txt | corpus.bad_files=ignore => Error merging override corpus.ba
train corpus=text | corpus.pth=x.txt => Could not override 'corpus.pth'.
train layers=[] => layers must be 'all' or a list of block indices, got []
train layers=[0,0] => layers must name each block once, got [0, 0]
train layers=some => layers must be 'all' or a list of block indices, got 'some'
train layers=[1.5] => layers must be 'all' or a list of block indices, got [1.5]
train store.dtype=fp8 => Error merging override store.dtype=fp8
train store.skip_first=-1 => store.skip_first must be at least 0, got -1
train extract.batch_size=0 => extract.batch_size must be auto or at least 1, got 0
train extract.devices=0 => extract.devices must be at least 1, got 0
train seed=x => Error merging override seed=x
train auto=perhaps => Error merging override auto=perhaps
train verify=maybe => Error merging override verify=maybe
train experiment=nothing => Could not find 'experiment/nothing'
train sweep=nothing => Could not find 'sweep/nothing'
train hydra/launcher=pbs => Could not find 'hydra/launcher/pbs'
train sae.k => Error parsing override 'sae.k'
train sae.k=[1,2] => Error merging override sae.k=[1,2]
train ~sae.k => Error merging override ~sae.k
train ++nothing=1 => nothing is not a setting
train questions=file => Could not override 'questions'. No match in the defaults list.
extract sae.k=3 => Could not override 'sae.k'.
extract corpus.seed=1 => Could not override 'corpus.seed'.
extract device=tpu => device is model.device now
detect questions=trivia => Could not find 'questions/trivia'
detect questions=file => questions.path is required; set questions.path=...
detect questions=answered => questions.path is required; set questions.path=...
detect questions=option_scores => questions.path is required; set questions.path=...
detect questions=file | questions.path=q.csv | questions.template=Answer: => questions.template mus
detect questions=file | questions.path=q.csv | questions.num=0 => questions.num must be at least 1,
detect questions=file | questions.path=q.csv | questions.answers=theirs => Error merging override q
detect questions=truthfulqa | questions.split=null => questions.split is required; set questions.sp
detect questions.subset=x => Could not override 'questions.subset'.
detect questions.kind=file => questions.kind=file goes with questions=file; leave it to that
detect questions.name=a/b => questions.name must be a plain folder name, got 'a/b'
detect questions=option_scores | questions.path=x | questions.labels=ours => questions.labels must
detect questions=answered | questions.path=x | bank=y => questions=answered looks through no bank;
detect questions=answered | questions.path=x | estimate=true => estimate=true says nothing of quest
detect bank=x | estimate=true => estimate=true has nothing to say of bank=x; drop one
detect asking=loud => Could not find 'asking/loud'
detect asking.template=Who? => asking.template must contain {question}
detect asking.p_true=Is it? => asking.p_true must be auto, null or contain {question}
detect asking.p_true={question} => asking.p_true must be auto, null or contain {answer}
detect asking.samples=-1 => asking.samples must be at least 0, got -1
detect asking.max_new_tokens=0 => asking.max_new_tokens must be at least 1, got 0
detect asking.stop=x => Error merging override asking.stop=x
detect detector=sharp => Could not find 'detector/sharp'
detect detector.top_k=0 => detector.top_k must be at least 1, got 0
detect detector.gate=2 => detector.gate must be null or a cosine in -1..1, got 2.0
detect detector.position=middle => Error merging override detector.position=middle
detect detector.association=best => Error merging override detector.association=best
detect interventions=all => Could not find 'interventions/all'
detect interventions.copies.owner=-1 => interventions.copies.owner must be at least 0, got -1
detect interventions.copies.ablated=1 => Could not override 'interventions.copies.ablated'.
detect evaluation.n_folds=1 => evaluation.n_folds must be at least 2, got 1
detect evaluation.n_bootstrap=-1 => evaluation.n_bootstrap must be at least 1, got -1
detect evaluation.held_out=colour => Error merging override evaluation.held_out=colour
detect evaluation.compare=[outputs] => evaluation.compare: no detector outputs; did you mean output?
detect evaluation.compare=output => Error merging override evaluation.compare=output
detect evaluation.compare=[] => evaluation.compare must name a detector, or be null for all
detect detector.samples=3 => detector.samples is asking.samples now
detect detector.p_true=x => detector.p_true is asking.p_true now
detect prompt=Who? => prompt is python -m ghosttrack ask "..." now
detect check=x => check is python -m ghosttrack check ... now
detect sweep=layers_x_positions => sweep=layers_x_positions is experiment=layers_x_positions now
detect detector/interventions=none => detector/interventions is interventions now
train output_root=~no-such-user/x => ~no-such-user/x: there is no such home; write the whole path
train =3 => =3: the name of a setting stands before the =
detect asking=few_shot | asking.shots=0 => asking.shots must be at least 1, got 0
train sae.decay_frac=1.5 => sae.decay_frac must be in 0..1, got 1.5
train sae.auxk_coef=-1 => sae.auxk_coef must be at least 0, got -1.0
train sae.base_lr=0 => sae.base_lr must be above 0, got 0.0
train +train.sorce=store => train.sorce is not a setting; did you mean train.source?
train model=ghostworld-1 | +model.world.sead=1 => model.world.sead is not a setting; did you mean m
train sae.d_sae=8 => sae.k must be in 1..sae.d_sae=8, got 16
train +corpus.column=body => corpus.column is not a setting of corpus=ghostworld
train corpus.name=a/../b => corpus.name must be a plain folder name, got 'a/../b'
detect questions=answered | questions.path=a | +questions.num=9 => questions.num is not a setting o
detect detector.hypotheses=5 => detector.hypotheses=5 is for detector.association=murty, not hungar
detect detector.association=murty | detector.hypotheses=0 => detector.hypotheses must be at least 1
train trainer=2 => trainer=2: trainer is chosen by name; --help lists them
train model=null => model=null: model is chosen by name; --help lists them
train +sae={k: 0} => sae.k must be in 1..sae.d_sae=512, got 0
train model.world.seed=0 => model.world.seed: this model is not made here; add model=ghostworld-1
train output_root= => output_root is empty; give a path, or leave the setting out
train model.path='' => model.path is empty; give a path, or leave the setting out
train sae.clip_norm=inf => sae.clip_norm must be a finite number, got inf
train sae.seed=-1 => sae.seed must be in 0..2147483647, got -1
detect evaluation.seed=4294967296 => evaluation.seed must be in 0..2147483647, got 4294967296
extract store.skip_first=99999999999999999999 => store.skip_first must be below 2**63, got 99999999
train model=gpt2-small | model.world.seed=1 => model.world.seed: this model is not made here; add mo
train stage=null => stage=null: stage is chosen by name; --help lists them
train logger=[null] => logger=[null]: logger is chosen by name; --help lists them
train ++sae.prefixes.x=1 => ++sae.prefixes.x=1: Hydra cannot put this together (invalid literal for
train model.path=${nothing} => model.path: Interpolation key 'nothing' not found
train sae.k=${nothing} => sae.k: Interpolation key 'nothing' not found
detect asking.entailment=x => asking.entailment compares samples: set asking.samples=10, say
"""
"""Program, what is typed, and the answer's first words."""
ROWS = [line.partition(" => ")[::2] for line in TABLE.splitlines()]


def test_the_table_is_long_and_names_no_command_twice():
    assert len({typed for typed, _ in ROWS}) == len(ROWS) >= 80


@pytest.mark.parametrize(("command", "answer"), ROWS)
def test_a_wrong_command_is_answered_by_name(command: str, answer: str):
    program, _, rest = command.partition(" ")
    typed = rest.split(" | ")
    with pytest.raises((ConfigError, HydraException)) as caught:
        run_until_it_costs(program, typed)
    first = str(caught.value).splitlines()[0]
    assert answer in first
    if isinstance(caught.value, ConfigError):
        assert str(caught.value) == first


def run_until_it_costs(program: str, typed: list[str]) -> None:
    """Do what the programs do before anything is read."""
    check_old_names(typed)
    with composing(typed):
        config = load(composed(program, *literal(typed)), PROGRAMS[program])
    if program == "detect":
        check_names(config.evaluation.compare)
