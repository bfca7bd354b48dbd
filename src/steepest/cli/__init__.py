"""The command line: `steepest demo | fit | plan | doctor | causes | verify | rules | check | bench`."""

import sys
import traceback

from steepest.cli.trouble import exit_code, sentence

DEBUG = "--debug"


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 training failed, 2 bad input, 130 interrupted.

    An error is one sentence on stderr; with --debug anywhere on the line, a traceback.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    from steepest.cli.commands import app

    own = next((place for place, each in enumerate(arguments) if each.endswith(".py")), len(arguments))
    rest = arguments[own:]  # a script's --debug is its own
    try:
        app([*(each for each in arguments[:own] if each != DEBUG), *rest], prog_name="steepest")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if DEBUG in arguments[:own]:
            traceback.print_exception(error)
        else:
            sys.stderr.write(f"error: {sentence(error)}\n")
        sys.exit(exit_code(error))
