"""Pure rules: from what is to what should happen. No clock, no I/O."""
