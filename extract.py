"""Read the residual streams of a language model over a corpus into an activation store.

Examples:
    python extract.py
    python extract.py layers=[2,4] corpus.num_tokens=100000
    python extract.py model=gpt2-small corpus=text corpus.path=wiki.txt
    python extract.py estimate=true
"""

import hydra
from omegaconf import DictConfig

from ghosttrack.config import ExtractProgram, load
from ghosttrack.launch import as_typed, program
from ghosttrack.pipelines.made_model import make_model


@as_typed
@hydra.main(version_base="1.3", config_path="conf", config_name="extract")
@program
def main(cfg: DictConfig) -> None:
    """Compose, check, extract."""
    config = load(cfg, ExtractProgram)
    make_model(config)
    if config.estimate:
        from ghosttrack.pipelines.estimate import estimate as run
    else:
        from ghosttrack.pipelines.extract import extract as run
    run(config)


if __name__ == "__main__":
    main()
