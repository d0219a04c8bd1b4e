"""Groups of peers: networks apart, branches on one trunk, heads on a tree; each puts out `PeerOutputs`."""

from codistill.peers.base import PeerGroup
from codistill.peers.branched import BranchedGroup
from codistill.peers.defaults import default_split
from codistill.peers.networks import NetworkGroup
from codistill.peers.teachers import Teachers
from codistill.peers.tree import TreeGroup

__all__ = ["BranchedGroup", "NetworkGroup", "PeerGroup", "Teachers", "TreeGroup", "default_split"]
