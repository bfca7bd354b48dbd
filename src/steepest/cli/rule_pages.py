"""Update rules as the terminal shows them: all in a table, or one with its formula."""

import inspect

from rich.console import Console

from steepest.rule import Rule, class_name
from steepest.rules import RULES, find


def show_rules(name: str | None) -> None:
    """Print all rules, or everything about one; raise ValueError for a name that is none."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(table() if name is None else page(find(name)))


def table() -> str:
    """Return the rules with the class, the states and the first sentence of each."""
    rows = [("rule", "steepest.optim", "states", "what it does")]
    rows += [(name, class_name(name), " ".join(rule.states) or "-", rule.summary) for name, rule in RULES.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:<{widths[2]}}  {row[3]}" for row in rows)


def page(rule: Rule) -> str:
    """Return the formula as it is written, with where it comes from."""
    source = inspect.getsource(rule.formula).rstrip()
    witness = f"\nThe same numbers as {rule.same_as}." if rule.same_as else ""
    return f"{rule.name}: steepest.optim.{class_name(rule.name)}\nSource: {rule.paper}.{witness}\n\n{source}"
