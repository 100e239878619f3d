"""What `slipstream import` and `slipstream replay` share: options, questions, and the outcome."""
