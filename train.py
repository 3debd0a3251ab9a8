"""Train a bank of sparse autoencoders, one per layer, all at once.

Examples:
    python train.py
    python train.py sae.k=16 layers=[2,4]
    python train.py model=gpt2-small corpus=text corpus.path=wiki.txt trainer=ddp
    python train.py estimate=true
    python train.py -m sae.d_sae=256,512 sae.k=8,16
"""

from ghosttrack.config import TrainProgram
from ghosttrack.launch import program
from ghosttrack.pipelines.made_model import make_model


@program("train", TrainProgram)
def main(config: TrainProgram) -> None:
    """Make the model where it is made here, and train."""
    make_model(config)
    if config.estimate:
        from ghosttrack.pipelines.estimate import estimate as run
    else:
        from ghosttrack.pipelines.train import train as run
    run(config)


if __name__ == "__main__":
    main()
