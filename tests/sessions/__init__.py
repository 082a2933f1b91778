"""Sessions, whatever the server and the store."""
