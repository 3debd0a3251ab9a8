"""Ask a model questions and say which of its answers are hallucinated, and how one can know.

Examples:
    python detect.py
    python detect.py questions=file questions.path=questions.jsonl model=gpt2-small
    python detect.py questions=option_scores questions.path=results/BEAR/gpt2 model.name=gpt2
    python detect.py questions=answered questions.path=answers.jsonl model.name=some-api
    python detect.py bank=<folder of SAEs>
    python detect.py estimate=true
"""

from ghosttrack.detect_config import DetectProgram
from ghosttrack.launch import program
from ghosttrack.pipelines.made_model import make_model


@program("detect", DetectProgram)
def main(config: DetectProgram) -> None:
    """Make the model where it is made here, and detect."""
    if not config.questions.kind.is_ready:
        make_model(config)
    if config.questions.kind.is_ready:
        from ghosttrack.pipelines.ready import detect_ready as run
    elif config.estimate:
        from ghosttrack.pipelines.estimate import estimate as run
    else:
        from ghosttrack.pipelines.detect import detect as run
    run(config)


if __name__ == "__main__":
    main()
