"""Settings as a program composes them."""

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from ghosttrack.config import ExtractProgram, TrainProgram, load
from ghosttrack.detect_config import DetectProgram
from tests.support.commands import ROOT

PROGRAMS = {"extract": ExtractProgram, "train": TrainProgram, "detect": DetectProgram}


def composed(program: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose(program, overrides=list(overrides))


def extraction(*overrides: str) -> ExtractProgram:
    return load(composed("extract", *overrides), ExtractProgram)


def training(*overrides: str) -> TrainProgram:
    return load(composed("train", *overrides), TrainProgram)


def detection(*overrides: str) -> DetectProgram:
    return load(composed("detect", *overrides), DetectProgram)
