"""Read the residual streams of a language model over a corpus into an activation store.

Examples:
    python extract.py
    python extract.py layers=[2,4] corpus.num_tokens=100000
    python extract.py model=gpt2-small corpus=text corpus.path=wiki.txt
    python extract.py estimate=true
"""

from ghosttrack.config import ExtractProgram
from ghosttrack.launch import program
from ghosttrack.pipelines.made_model import make_model


@program("extract", ExtractProgram)
def main(config: ExtractProgram) -> None:
    """Make the model where it is made here, and extract."""
    make_model(config)
    if config.estimate:
        from ghosttrack.pipelines.estimate import estimate as run
    else:
        from ghosttrack.pipelines.extract import extract as run
    run(config)


if __name__ == "__main__":
    main()
