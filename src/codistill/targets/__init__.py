"""How a group's outputs become soft targets."""

from codistill.targets.attention import PeerAttention, attention_weights, projection
from codistill.targets.general import general_weights
from codistill.targets.linear import linear, linear_combination
from codistill.targets.mean import mean_of_others
from codistill.targets.minlogit import minlogit
from codistill.targets.naive import naive

__all__ = [
    "PeerAttention",
    "attention_weights",
    "general_weights",
    "linear",
    "linear_combination",
    "mean_of_others",
    "minlogit",
    "naive",
    "projection",
]
