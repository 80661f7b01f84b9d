"""Environment faults on the real process: what senders get as an answer, what is kept, how it recovers by itself."""
