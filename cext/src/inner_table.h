/* Instantiated once an instruction set: its table of inner loops. */
const struct kernels ISA_KERNELS = {
    .name = ISA_NAME,
    .mark = mark,
    .mark_feedback = mark_feedback,
    .emit = emit,
    .emit_zero = emit_zero,
    .add = add,
    .moments = moments,
    .moments_feedback = moments_feedback,
    .tail = tail,
};
