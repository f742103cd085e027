"""HTML reports on instruction data: one page about a Magpie run or any dataset, or comparing two."""

from mlx_suite.curation.report.report import SAMPLES, HtmlReport, check_place, make_report, write_report

__all__ = ["SAMPLES", "HtmlReport", "check_place", "make_report", "write_report"]
