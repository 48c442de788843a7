"""The kernels in C: selection, moments, merging and sparse optimizing of float32 vectors at memory speed.

Arrays are one-dimensional and C-contiguous: float32 values, int32 indices, int64 offsets, a uint8 workspace. Kernels
write only into what they are given, keep no state, start no threads beyond `threads`, and release the GIL. A wrong
type or shape of an argument raises TypeError; a wrong length, range or overlap raises ValueError; nothing is written
then. `cext.reference` has every function with the same signature in NumPy, and its docstrings define what is computed.

Magnitudes are ordered by the bits of |x|: NaN above infinity above every finite number, so a NaN is always selected,
sent and visible, never lost. Selection, residuals, merging and the optimizer give the same bits on every instruction
set and for every number of threads; so do the moments.

A residual may be bfloat16 as well, as uint16, where a function has a `seed`: it is rounded as round_bf16 does it, after
the entries that go are chosen and taken exactly. Samples are taken of either kind.

SANDTABLE_SIMD=serial, avx2 or avx512 forces an instruction set; the default is the best the processor has.
"""

from __future__ import annotations

from cext.levels import LEVELS, capabilities, simd, use
from cext.listed import (
    delta_decode,
    delta_encode,
    delta_size,
    gather,
    merge_sorted,
    on_stride,
    put,
    scatter_add,
    sparse_adam,
    sparse_sgd,
    zero_at,
)
from cext.moments_type import (
    FIT_EXPONENTIAL,
    FIT_OTHER,
    FIT_PARETO,
    HALF_BF16,
    HALF_FP16,
    LARGEST_SQUARED,
    SMALLEST_SQUARED,
    SUM_ABS,
    SUM_ALL,
    SUM_LOGS,
    SUM_SQUARES,
    SUM_X,
    Collected,
    Moments,
    Predicted,
    StageFit,
    short_above,
)
from cext.places import DRAW_BLOCK
from cext.selection import (
    collect_feedback,
    collect_stages,
    collect_workspace,
    scan_select,
    scan_workspace,
    select_blocks,
    select_drawn,
    settle,
    settle_topk,
    take_blocks,
    threshold_select,
    threshold_select_feedback,
    topk_predictable,
    topk_select,
    topk_select_feedback,
    topk_workspace,
)
from cext.stages import predict_stages, sample, sample_strided, select_stages, stages_workspace
from cext.sums import count_above, max_abs, moments, moments_feedback, tail_moments
from cext.vectors import add, huge_pages, momentum, put_bf16, round_bf16, round_half, scaled

__all__ = [
    "DRAW_BLOCK",
    "FIT_EXPONENTIAL",
    "FIT_OTHER",
    "FIT_PARETO",
    "HALF_BF16",
    "HALF_FP16",
    "LARGEST_SQUARED",
    "LEVELS",
    "SMALLEST_SQUARED",
    "SUM_ABS",
    "SUM_ALL",
    "SUM_LOGS",
    "SUM_SQUARES",
    "SUM_X",
    "Collected",
    "Moments",
    "Predicted",
    "StageFit",
    "add",
    "capabilities",
    "collect_feedback",
    "collect_stages",
    "collect_workspace",
    "count_above",
    "delta_decode",
    "delta_encode",
    "delta_size",
    "gather",
    "huge_pages",
    "max_abs",
    "merge_sorted",
    "moments",
    "moments_feedback",
    "momentum",
    "on_stride",
    "predict_stages",
    "put",
    "put_bf16",
    "round_bf16",
    "round_half",
    "sample",
    "sample_strided",
    "scaled",
    "scan_select",
    "scan_workspace",
    "scatter_add",
    "select_blocks",
    "select_drawn",
    "select_stages",
    "settle",
    "settle_topk",
    "short_above",
    "simd",
    "sparse_adam",
    "sparse_sgd",
    "stages_workspace",
    "tail_moments",
    "take_blocks",
    "threshold_select",
    "threshold_select_feedback",
    "topk_predictable",
    "topk_select",
    "topk_select_feedback",
    "topk_workspace",
    "use",
    "zero_at",
]
