"""How fast the backends are, next to their peers, in one run on one machine."""

from pymobilenet.bench.contenders import CONTENDERS, Contender, available
from pymobilenet.bench.measure import Case, Timing, measure
from pymobilenet.bench.peak import gemm_peak
from pymobilenet.bench.report import print_table, to_dict, write_bench_report

__all__ = [
    "CONTENDERS",
    "Case",
    "Contender",
    "Timing",
    "available",
    "gemm_peak",
    "measure",
    "print_table",
    "to_dict",
    "write_bench_report",
]
