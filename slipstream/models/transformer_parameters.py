"""The parameters of the transformer and of its training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TransformerParameters:
    dim: int = 64
    blocks: int = 2
    heads: int = 2
    window: int = 50
    dropout: float = 0.3
    learning_rate: float = 4e-3
    weight_decay: float = 0.01
    # Events of a step, of all processes together.
    batch: int = 1_500
    # Items drawn in a step to stand for a catalogue of more than twice as many; a smaller one is
    # compared whole.
    negatives: int = 1_500
    average: float = 0.995
    epochs: int = 30
    # Epochs without a better validation that end the training.
    patience: int = 3
    # Whether steps get smaller, down to nothing at the end: for a training that goes on from good
    # weights, and that no validation stops.
    decay: bool = False
    # Epochs on everything, with steps that decay, once validation has said what is best.
    further: int = 1
