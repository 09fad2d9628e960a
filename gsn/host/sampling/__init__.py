"""Any sampler opened at a step: one run from plan to trace, its checks and its memory."""
