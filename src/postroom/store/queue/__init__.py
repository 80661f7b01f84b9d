"""What happens to entries: accept, claim, move, act, end."""
