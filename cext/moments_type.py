"""What the moments passes return."""

from typing import NamedTuple


class Moments(NamedTuple):
    """Sums over x and |x| in float64: enough for the normal, exponential, gamma and Pareto fits, for mean and max."""

    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs of a record
    """Elements."""
    nonzero: int
    """Elements that are not 0; a NaN is not 0."""
    sum: float
    """Sum of x itself; NaN if there is a NaN or an infinity."""
    sum_abs: float
    sum_squares: float
    sum_log: float
    """Sum of ln(|x| + 2.2e-16), zeros included; the addition is made in float32."""
    max_abs: float


class Collected(NamedTuple):
    """What collect_feedback saw in its one pass."""

    candidates: int
    """Elements above `low`; more than the room means that the rest was not written (and is still in the residual)."""
    moments: Moments
    """Of the whole residual after the gradient was added; sum_log is NaN unless it was asked for."""
    tails: tuple[tuple[int, float, float], ...]
    """For each stage: count, sum and sum of squares of |x| - high over |x| > high, its bracket's upper end."""
    between: int
    """Elements inside a stage's bracket; more than the room means that some are missing."""
