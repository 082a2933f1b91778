"""Where sessions are stored: the contract, memcached, and this process."""
