/* Instantiated once an instruction set: its table of inner loops. */
const struct kernels ISA_KERNELS = {
    .name = ISA_NAME,
    .pack = pack,
    .pack_zero = pack_zero,
    .pack_feedback = pack_feedback,
    .pack_entries = pack_entries,
    .pack_keys = pack_keys,
    .pack_values = pack_values,
    .pack_between = pack_between,
    .add = add,
    .block_scores = block_scores,
    .max_key = max_key,
    .moments = moments,
    .moments_feedback = moments_feedback,
    .sums_feedback = sums_feedback,
    .tail = tail,
};
