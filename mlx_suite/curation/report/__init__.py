"""Reports on instruction data: one page to be looked at, for a Magpie run or any dataset, or for two side by side."""

from mlx_suite.curation.report.report import SAMPLES, Report, check_place, make_report, write_report

__all__ = ["SAMPLES", "Report", "check_place", "make_report", "write_report"]
