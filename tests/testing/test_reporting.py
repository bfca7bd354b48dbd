"""What the report looks like."""

import doctest
import importlib
import io
import subprocess
import sys

import pytest
import torch
from rich.console import Console

from steepest.testing import LAWS, Report, Subject, report

from .breaches_use import Climbs
from .clean import Clean

SOME = ["hooks-fire", "descends", "paths-agree"]


def test_one_line_a_law_and_the_counts():
    assert str(report(Clean, SOME, lr=0.2)) == (
        "✓ hooks-fire\n✓ descends\n✓ paths-agree\nClean(lr=0.2): 3 kept of 3 laws"
    )


def test_a_broken_law_has_numbers_and_a_line_that_reproduces_it():
    found = report(Climbs, SOME)
    lines = str(found).splitlines()
    assert lines[0] == "✓ hooks-fire"
    assert lines[1].startswith("✗ descends     the loss goes from ")
    assert lines[2].strip().startswith("steepest.testing.reproduce('descends', ")
    assert lines[-1] == "Climbs(): 2 kept, 1 broken of 3 laws"
    assert not found.good


def test_marks_of_the_other_outcomes():
    excused = report(Subject(Climbs, breaks={"descends": "meant", "hooks-fire": "not so"}), SOME)
    lines = str(excused).splitlines()
    assert lines[0].startswith("! hooks-fire   excuse not needed: declared as broken (not so)")
    assert lines[2].startswith("~ descends     excused: meant (the loss goes from ")
    assert "Climbs(): 1 kept, 1 excused, 1 excuse not needed of 3 laws" in lines[-1]
    assert not excused.good
    assert report(Subject(Climbs, breaks={"descends": "meant"}), SOME).good
    assert str(report(torch.optim.Muon, ["paths-agree"])).startswith("- paths-agree  not applicable: it has one path")


def test_a_note_on_what_could_not_be_tried_is_shown():
    lines = str(report(torch.optim.Muon, ["every-option-acts"])).splitlines()
    assert lines[0] == "✓ every-option-acts  (no second value known for adjust_lr_fn)"


def test_a_rich_console_shows_the_same_words():
    found = report(Climbs, SOME)
    console = Console(file=io.StringIO(), width=200, color_system=None)
    console.print(found)
    shown = console.file.getvalue()
    for line in str(found).splitlines():
        for word in line.split():
            assert word in shown


def test_all_laws_are_reported_by_default():
    found = report(Clean)
    assert isinstance(found, Report)
    assert [verdict.law for verdict in found.verdicts] == list(LAWS)
    assert found.good


def test_importing_it_does_not_import_rich():
    code = "import sys, steepest.testing; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


@pytest.mark.parametrize("name", ["", ".judge", ".named", ".reporting", ".subject"])
def test_examples_in_docstrings_are_true(name):
    module = importlib.import_module(f"steepest.testing{name}")
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
