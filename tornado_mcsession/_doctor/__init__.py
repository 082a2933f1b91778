"""What ``python -m tornado_mcsession doctor`` finds out about memcached nodes."""
