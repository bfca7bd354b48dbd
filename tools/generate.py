"""Write every file of the repository that is made from the source; with --check, only say which are stale."""

import argparse
from collections.abc import Callable
from pathlib import Path

import plot_schedules

ROOT = Path(__file__).parent.parent
GENERATED: dict[str, Callable[[], str]] = {
    "docs/pictures/schedules.svg": plot_schedules.picture,
}


def main() -> int:
    """Return 1 when --check finds a stale file, else 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 when a file is stale")
    check = parser.parse_args().check
    stale = {name: text for name, make in GENERATED.items() if (text := make()) != _read(ROOT / name)}
    for name, text in stale.items():
        if check:
            print(f"{name} is not what the source makes of it: run `make fix`.")
        else:
            (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / name).write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    return int(check and bool(stale))


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


if __name__ == "__main__":
    raise SystemExit(main())
