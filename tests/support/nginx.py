"""nginx as the load balancer in front of several processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .processes import Process, find_server, free_port

# One process without a master: it runs as whoever runs the tests, root too, and
# there is only one pid to end.
AROUND = """\
daemon off;
master_process off;
pid {prefix}/nginx.pid;
error_log stderr warn;
events {{
    worker_connections 512;
}}
http {{
    access_log off;
    client_body_temp_path {prefix}/body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    {http}
}}
"""
# A failed upstream is not hidden by asking the next.
PROXY = """\
upstream application {{
        {servers}
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://application;
            proxy_next_upstream off;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header X-Real-Ip $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
    }}"""


def whole(prefix: Path, http: str) -> str:
    """A configuration of the tests that keeps its files in ``prefix``."""
    return AROUND.format(prefix=prefix, http=http)


class Nginx(Process):
    """A round-robin proxy for ``upstreams`` (ports of 127.0.0.1)."""

    def __init__(self, upstreams: Sequence[int], prefix: Path) -> None:
        port = free_port()
        # max_fails=0: an upstream that failed once still gets its turn.
        servers = "\n        ".join(
            f"server 127.0.0.1:{upstream} max_fails=0;" for upstream in upstreams
        )
        configuration = prefix / "nginx.conf"
        http = PROXY.format(port=port, servers=servers)
        configuration.write_text(whole(prefix, http))
        command = [find_server("nginx"), "-p", str(prefix), "-c", str(configuration)]
        # "-e" (1.19.5) keeps it from opening the system's log before it has read
        # its configuration.
        super().__init__([*command, "-e", "stderr"], port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"
