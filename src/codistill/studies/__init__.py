"""Many runs that belong together."""

from codistill.studies.runner import CellResult, run_cells

__all__ = ["CellResult", "run_cells"]
