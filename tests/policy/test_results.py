"""The figures that README and docs name are those of the runs in results/primary."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRIMARY = ROOT / "results" / "primary"
PAGES = ["README.md", "docs/results.md", "results/primary.md"]
# Means with their spread, and differences with their interval.
FIGURE = re.compile(r"\d+\.\d+ ± \d+\.\d+|[−+]\d+\.\d+ \(−?\d+\.\d+ to −?\d+\.\d+\)")


def test_the_analysis_is_that_of_the_committed_runs(tmp_path):
    program = "import analyse, pathlib, sys; analyse.main(pathlib.Path(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-c", program, tmp_path], check=True, env={**os.environ, "PYTHONPATH": str(PRIMARY)}
    )
    written = (tmp_path / "analysis.md").read_text(encoding="utf-8")
    assert written == (PRIMARY / "analysis.md").read_text(encoding="utf-8"), "run results/primary/analyse.py"


@pytest.mark.parametrize("page", PAGES)
def test_every_figure_comes_from_a_page_of_results(page):
    sources = [path for path in (ROOT / "results").rglob("*.md") if str(path.relative_to(ROOT)) not in PAGES]
    known = {figure for path in sources for figure in FIGURE.findall(path.read_text(encoding="utf-8"))}
    named = set(FIGURE.findall((ROOT / page).read_text(encoding="utf-8")))
    assert named, "the pattern finds nothing on this page"
    assert not named - known
