"""What is true of sessions, whatever the server and the store."""
