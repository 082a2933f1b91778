"""Count a visitor's visits.

memcached -u nobody -l 127.0.0.1 -p 11211 &
python demo/hello.py
curl -i -c jar -b jar http://127.0.0.1:8888/
"""

import asyncio

from tornado.web import Application, RequestHandler

from tornado_mcsession import SessionMixin


class Counter(SessionMixin, RequestHandler):
    def get(self) -> None:
        self.session["visits"] = self.session.get("visits", 0) + 1
        self.write(f"visit {self.session['visits']}\n")


async def main() -> None:
    app = Application(
        [("/", Counter)],
        cookie_secret="change me",
        session={"store": "memcached://127.0.0.1:11211"},  # "memory://" needs no server
    )
    app.listen(8888, "127.0.0.1")
    await asyncio.Event().wait()


asyncio.run(main())
