"""What to answer to a name that is not known."""

import difflib
from collections.abc import Iterable

MOST = 50


def meant(word: str, known: Iterable[str]) -> str:
    """Return how the sentence that refuses a word goes on: the known name nearest to it, or else all known names.

    Capitals make no difference; of names that differ in nothing else, the first is meant. Lists at most 50 names.

    >>> meant("adam-W", ["lion", "adamw"])
    "did you mean 'adamw'?"
    >>> meant("xyzzy", ["lion", "adamw"])
    'there are lion, adamw.'
    """
    names = list(known)
    spellings = {name.lower(): name for name in reversed(names)}
    near = difflib.get_close_matches(word.lower(), spellings, n=1)
    if near:
        return f"did you mean {spellings[near[0]]!r}?"
    if len(names) == 1:
        return f"there is only {names[0]}."
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return f"there are {', '.join(names[:MOST]) or 'none'}{more}."
