"""What the moments passes return."""

from typing import NamedTuple


class Moments(NamedTuple):
    """Sums over |x| in float64: enough for the exponential, gamma and Pareto fits and for mean and max thresholds."""

    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs of a record
    """Elements."""
    nonzero: int
    """Elements that are not 0; a NaN is not 0."""
    sum_abs: float
    sum_squares: float
    sum_log: float
    """Sum of ln(|x| + 2.2e-16), zeros included; the addition is made in float32."""
    max_abs: float
