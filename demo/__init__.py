"""A small shop that shows what a session in memcached does.

scripts/demo                                    # sets up everything and starts it
python -m demo                                  # where the package is installed
curl -i -c jar -b jar -X POST http://127.0.0.1:8888/api/counter
"""
