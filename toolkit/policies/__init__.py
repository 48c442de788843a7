"""Pure decisions, shared by the trainer and the simulator: plain numbers in, plain numbers out."""
