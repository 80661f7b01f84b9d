"""Faults of the surroundings, each on the real process: what senders are told, what is kept, and that it recovers by itself."""
