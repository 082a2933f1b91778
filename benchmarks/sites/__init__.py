"""The sites that are measured. All serve ``/make?user=7``, ``/read``, ``/write``.

``/make`` begins the session of a user, with 300 bytes in it; ``/read`` tells what
is in it, and ``/write`` counts up first. The answer is ``7 12``: the user and the
count. A bare site keeps no sessions and always answers ``0 0``; its routes are those
of the site that it is compared with, for each that does not match takes time.
"""
