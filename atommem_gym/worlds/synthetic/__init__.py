"""The synthetic world: multi-hop questions over invented documents, generated from a seed without any file."""

from atommem_gym.worlds.synthetic.items import GroundTruth, SyntheticItems
from atommem_gym.worlds.synthetic.names import SPLITS
from atommem_gym.worlds.synthetic.shapes import SHAPES

__all__ = ["SHAPES", "SPLITS", "GroundTruth", "SyntheticItems"]
