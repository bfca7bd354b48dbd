"""All breaches, registered by being imported."""

from . import breaches_numbers, breaches_state, breaches_use
from .breach import BREACHES

__all__ = ["BREACHES", "breaches_numbers", "breaches_state", "breaches_use"]
