"""What clients and handlers see of sessions over HTTP."""
