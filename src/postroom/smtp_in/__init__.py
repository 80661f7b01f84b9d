"""Reception: SMTP sessions, the server and its limits, and the way of a message into the store."""
