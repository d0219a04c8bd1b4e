"""When to choose which method, in one short phrase each, for `codistill list methods`."""

from __future__ import annotations

__all__ = ["AUDIENCE"]

AUDIENCE = {
    "baseline": "you need what all others are measured against: the network alone",
    "ind": "you want an ensemble, or to see what teaching has to beat",
    "kd": "you have a trained, larger network to learn from",
    "dml": "you make a first try: any number of networks, also of different kinds",
    "cl_ilr": "training has to be cheap: students share their first layers",
    "clnn": "training has to be cheap: students share layers at several depths",
    "one": "training has to be cheap: students share their first layers, and a gate weighs them",
    "okddip": "one network is deployed, and several may train for it, apart or on shared layers",
    "kdcl_naive": "the labels are clean: the best student of each image teaches the others",
    "kdcl_linear": "the best student alone is too coarse a teacher: the best mixture teaches, at more cost per step",
    "kdcl_minlogit": "networks of different sizes learn together at little cost; best with views of their own (--icl)",
    "kdcl_general": "there are images to spare: held-out ones measure how much each student counts",
    "pcl": "there is memory for averaged copies: targets are steadier, and an average is deployed",
    "switokd": "there are exactly two networks, and the smaller one is deployed",
}
"""Method -> the end of the sentence "choose it when ..."."""
