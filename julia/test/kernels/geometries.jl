# Sizes and geometries of the convolutions in the tests.

const SIZES = ((7, 5), (6, 9), (2, 2), (1, 1), (33, 32))
const GEOMETRIES = (
    (1, (1, 1)), (2, (1, 1)), (1, (2, 2)), (2, (2, 2)), (2, (0, 1)), (1, (2, 0)), (2, (0, 2)), (3, (1, 0)),
)

geometry(stride, padding, groups) =
    UnitOptions(stride, padding, groups, 1e-5, nothing, nothing, nothing, true)
