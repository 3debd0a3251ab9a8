"""Train a bank of sparse autoencoders, one per layer, all at once.

Examples:
    python train.py
    python train.py sae.k=16 layers=[2,4]
    python train.py model=gpt2-small corpus=text corpus.path=wiki.txt trainer=ddp
    python train.py estimate=true
    python train.py -m sae.d_sae=256,512 sae.k=8,16
"""

import hydra
from omegaconf import DictConfig

from ghosttrack.config import TrainProgram, load
from ghosttrack.launch import as_typed, program
from ghosttrack.pipelines.made_model import make_model


@as_typed
@hydra.main(version_base="1.3", config_path="conf", config_name="train")
@program
def main(cfg: DictConfig) -> None:
    """Compose, check, train."""
    config = load(cfg, TrainProgram)
    make_model(config)
    if config.estimate:
        from ghosttrack.pipelines.estimate import estimate as run
    else:
        from ghosttrack.pipelines.train import train as run
    run(config)


if __name__ == "__main__":
    main()
