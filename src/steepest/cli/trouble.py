"""Errors as a person at a terminal wants them: one sentence, and where in their own file it happened."""

import sysconfig
import traceback
from pathlib import Path

PACKAGE = str(Path(__file__).parents[1])
LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def sentence(error: BaseException) -> str:
    """Return what the error says, after it the place in the user's own code, then its notes."""
    text = str(error) or type(error).__name__
    if not isinstance(error, ValueError | TypeError | FloatingPointError):
        text = f"{type(error).__name__}: {text}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return "\n".join([f"{text}{place}", *getattr(error, "__notes__", ())])


def exit_code(error: BaseException) -> int:
    """Return 1 for a training that failed, 2 for anything that has to be changed before it can begin."""
    return 1 if isinstance(error, FloatingPointError) else 2


def _is_users(file: str) -> bool:
    return not file.startswith((PACKAGE, "<", *LIBRARIES)) and Path(file).name != "steepest"
