"""Every law, one file for each thing that can go wrong."""

from steepest.testing.law import Law
from steepest.testing.laws import absence, effects, extremes, groups, layouts, numbers, options, protocol, saving

LAWS: tuple[Law, ...] = tuple(
    value
    for module in (numbers, layouts, saving, absence, extremes, groups, options, effects, protocol)
    for value in vars(module).values()
    if isinstance(value, Law)
)
