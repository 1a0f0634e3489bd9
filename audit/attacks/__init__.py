"""Attacks that make class images from a subject; one file each, in the order of ATTACKS."""

from audit.attacks import adaptive, clone, evolution, image_prior, representative, surrogate
from audit.attacks.common import FULL, QUICK, Attack, AttackImages, Budget

ATTACKS: tuple[Attack, ...] = (
    representative.ATTACK,
    *surrogate.ATTACKS,
    evolution.ATTACK,
    image_prior.ATTACK,
    clone.ATTACK,
    adaptive.ATTACK,
)

__all__ = ["ATTACKS", "FULL", "QUICK", "Attack", "AttackImages", "Budget"]
