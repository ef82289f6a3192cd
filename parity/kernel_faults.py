"""Planted faults in the source of MobileNets.jl: what is left over where work is divided.

Each replaces a text of one file, which is evaluated again in the running Julia.
"""

from contextlib import contextmanager
from typing import NamedTuple

from faults import julia_faults


class KernelFault(NamedTuple):
    """A text of a source file that is replaced by a wrong one."""

    module: str
    path: str
    right: str
    wrong: str

    @contextmanager
    def planted(self, backend):
        """Plant the fault in the running Julia, and remove it afterwards."""
        julia = julia_faults(backend)
        julia.patch(*self)
        try:
            yield
        finally:
            julia.unpatch(self.module, self.path)


SHARES_CUT = KernelFault(
    "Kernels",
    "kernels/team.jl",
    "((chunk - 1) * count ÷ chunks + 1):(chunk * count ÷ chunks)",
    "((chunk - 1) * (count ÷ chunks) + 1):(chunk * (count ÷ chunks))",
)
RUNS_CUT = KernelFault(
    "Kernels",
    "kernels/norm.jl",
    "for pixel in (first(range) + runs * PIXELS_PER_RUN):last(range)",
    "for pixel in (first(range) + runs * PIXELS_PER_RUN):(last(range) - 1)",
)
SHARES_UNWEIGHTED = KernelFault(
    "Kernels",
    "kernels/norm.jl",
    "mean[c] = total / count\n",
    "mean[c] = sum(means) / length(chunks)\n",
)
FEW_PIXELS_CUT = KernelFault(
    "Kernels",
    "kernels/pointwise.jl",
    "for pixel in (4blocks):(size(x, 2) - 1)",
    "for pixel in (4blocks):(size(x, 2) - 2)",
)
LANES_CUT = KernelFault(
    "Kernels",
    "kernels/depthwise.jl",
    "store_lanes!(to + (p - 1) * pixel, total_p, block.count)",
    "store_lanes!(to + (p - 1) * pixel, total_p, block.count - (block.count < $L))",
)
SECOND_MICRO_BATCH = KernelFault(
    "Models",
    "models/frozen.jl",
    "copyto!(image_range(maps, images), output)",
    "copyto!(image_range(maps, axes(output, 4)), output)",
)
SMALL_BLOCKS_CUT = KernelFault(
    "Kernels",
    "kernels/packed_panels.jl",
    "block(min(pixel, count - SMALL_BLOCK), Val(SMALL_BLOCK))",
    "(pixel <= count - SMALL_BLOCK && block(pixel, Val(SMALL_BLOCK)))",
)
SECOND_SUM = KernelFault(
    "Kernels",
    "kernels/packed_panels.jl",
    "start in 0:PRODUCTS_PER_SUM:(run_length - 1)",
    "start in 0:PRODUCTS_PER_SUM:min(run_length - 1, PRODUCTS_PER_SUM - 1)",
)
SQUARE_MAPS = KernelFault(
    "Models",
    "models/statistics.jl",
    "columns, rows = output_size(conv, columns), output_size(conv, rows)",
    "columns = rows = output_size(conv, columns)",
)
