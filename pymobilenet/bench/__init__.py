"""Time the backends beside their peers, in one run on one machine."""

from pymobilenet.bench.contenders import CONTENDERS, Contender, available
from pymobilenet.bench.measure import Case, Timing, measure
from pymobilenet.bench.peak import gemm_peak
from pymobilenet.bench.report import bench_to_dict, print_table, write_bench_report

__all__ = [
    "CONTENDERS",
    "Case",
    "Contender",
    "Timing",
    "available",
    "bench_to_dict",
    "gemm_peak",
    "measure",
    "print_table",
    "write_bench_report",
]
