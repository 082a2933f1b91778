"""Settings are checked when the manager is built, by errors that help."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import math
import time
from datetime import timedelta

import pytest
from tornado.web import Application

from tornado_mcsession import MemoryStore, SessionManager
from tornado_mcsession.settings import Settings
from tornado_mcsession.web.cookie import CookieOptions

DAY = 86_400


def build(name="session", **options):
    return Settings.build(options, name=name)


def test_the_defaults_are_the_designed_ones():
    """What is not set is as the documentation's table says."""
    defaults = {
        field.name: getattr(build(), field.name)
        for field in dataclasses.fields(Settings)
    }
    assert defaults == {
        "store": "memory://",
        "idle_timeout": 1 * DAY,
        "lifetime": 30 * DAY,
        "anonymous_timeout": None,
        "renew_after": 0.1,
        "cookie": CookieOptions(
            name="session",
            path="/",
            domain=None,
            secure="auto",
            httponly=True,
            samesite="Lax",
            partitioned=False,
            persistent=True,
            priority=None,
        ),
        "signed": None,
        "transport": "cookie",
        "schema": None,
        "upgrade": None,
        "key_prefix": "mcsession:",
        "serializer": "msgpack",
        "codec": None,
        "encryption_keys": (),
        "max_size": 900 * 1024,
        "persist": "before_response",
        "on_error": "raise",
        "save_on_server_error": False,
        "generate_id": None,
        "allow_new": None,
        "cross_site": "withhold",
        "no_store": False,
        "allow_empty": False,
        "track_sessions": False,
        "max_sessions": None,
        "validate": None,
        "before_save": None,
        "clock": time.time,
    }


def test_another_name_has_another_cookie_and_other_keys():
    """Two managers of one application do not meet in cookie or store."""
    config = build("admin")
    assert config.cookie.name == "admin"
    assert config.key_prefix == "mcsession:admin:"
    chosen = build("admin", cookie={"name": "mine"}, key_prefix="p:")
    assert (chosen.cookie.name, chosen.key_prefix) == ("mine", "p:")


@pytest.mark.parametrize("key", ["idle_timeout", "lifetime", "anonymous_timeout"])
def test_durations_may_be_timedeltas(key):
    """A duration is a number of seconds or a timedelta."""
    assert getattr(build(**{key: timedelta(hours=2)}), key) == 7200.0
    assert getattr(build(**{key: 7200}), key) == 7200.0


@pytest.mark.parametrize("value", ["3600", True, b"1", [1], object()])
@pytest.mark.parametrize("key", ["idle_timeout", "lifetime", "anonymous_timeout"])
def test_a_duration_of_a_wrong_type_is_refused(key, value):
    """What is neither a number nor a timedelta is a TypeError."""
    with pytest.raises(TypeError, match=rf"^{key} must be seconds, a timedelta or"):
        build(**{key: value})


@pytest.mark.parametrize("value", [0, -1, -0.5, math.inf, math.nan, timedelta(0)])
@pytest.mark.parametrize("key", ["idle_timeout", "lifetime", "anonymous_timeout"])
def test_a_duration_that_is_none_is_refused(key, value):
    """A duration is finite and greater than 0."""
    with pytest.raises(ValueError, match=rf"^{key} must be finite and greater"):
        build(**{key: value})


def test_some_end_there_must_be():
    """Without idle timeout and lifetime no session would end."""
    with pytest.raises(ValueError, match="idle_timeout and lifetime are both None"):
        build(idle_timeout=None, lifetime=None)
    assert build(idle_timeout=None).lifetime == 30 * DAY
    assert build(lifetime=None).idle_timeout == DAY


@pytest.mark.parametrize("lifetime", [60, 60.0, timedelta(minutes=1)])
def test_the_default_idle_timeout_gives_way_to_a_shorter_lifetime(lifetime):
    """Only an idle timeout that was asked for can be too long."""
    assert build(lifetime=lifetime).idle_timeout == 60.0
    with pytest.raises(ValueError, match="idle_timeout must not be longer"):
        build(lifetime=lifetime, idle_timeout=61)
    assert build(lifetime=lifetime, idle_timeout=60).idle_timeout == 60.0


TEXT = "text"
WRONG = [
    ("store", 5, TypeError, "a URL or a Store"),
    ("store", "memory://host", ValueError, "memory://"),
    ("renew_after", "0.1", TypeError, "a share from 0 to 1"),
    ("renew_after", True, TypeError, "a share from 0 to 1"),
    ("renew_after", 1.5, ValueError, "a share from 0 to 1"),
    ("renew_after", -0.1, ValueError, "a share from 0 to 1"),
    ("renew_after", math.nan, ValueError, "a share from 0 to 1"),
    ("cookie", "planted", TypeError, "a dict or a callable"),
    ("signed", 1, TypeError, "True, False or None"),
    ("signed", "planted", TypeError, "True, False or None"),
    ("transport", "headers:X", ValueError, "'header:<Header-Name>'"),
    ("transport", "header:", ValueError, "'header:<Header-Name>'"),
    ("transport", "header:a b", ValueError, "'header:<Header-Name>'"),
    ("transport", 5, TypeError, "read, write and clear"),
    ("key_prefix", 5, TypeError, TEXT),
    ("key_prefix", "a b", ValueError, "without spaces and braces"),
    ("key_prefix", "{a}", ValueError, "without spaces and braces"),
    ("key_prefix", "é", ValueError, "ASCII"),
    ("key_prefix", "a" * 161, ValueError, "160"),
    ("serializer", "pickle", ValueError, "'msgpack' or 'json'"),
    ("serializer", 5, TypeError, "have dumps and loads"),
    ("encryption_keys", "planted", TypeError, "a list of keys"),
    ("encryption_keys", b"planted" * 5, TypeError, "a list of keys"),
    ("encryption_keys", [b"planted"], ValueError, "32 bytes"),
    ("encryption_keys", ["planted!"], ValueError, "base64"),
    ("encryption_keys", ["planted="], ValueError, "32 bytes|base64"),
    ("encryption_keys", [5], TypeError, "32 bytes"),
    ("encryption_keys", [b"k" * 32, b"k" * 32], ValueError, "differ"),
    ("max_size", "1", TypeError, "a whole number"),
    ("max_size", 1.5, TypeError, "a whole number"),
    ("max_size", True, TypeError, "a whole number"),
    ("max_size", 0, ValueError, "greater than 0"),
    ("persist", 5, TypeError, "'before_response' or 'on_finish'"),
    ("persist", "onfinish", ValueError, "did you mean 'on_finish'"),
    ("on_error", 5, TypeError, "'raise', 'degrade'"),
    ("on_error", asyncio.sleep, TypeError, "not async"),
    ("on_error", "degrad", ValueError, "did you mean 'degrade'"),
    ("save_on_server_error", 1, TypeError, "True or False"),
    ("generate_id", "planted", TypeError, "a callable or None"),
    ("allow_new", True, TypeError, "a callable or None"),
    ("cross_site", "planted", ValueError, "'withhold' or 'allow'"),
    ("no_store", 1, TypeError, "True or False"),
    ("allow_empty", None, TypeError, "True or False"),
    ("transport", [], ValueError, "an empty list"),
    ("validate", "planted", TypeError, "a callable or None"),
    ("before_save", "planted", TypeError, "a callable or None"),
    ("clock", 5, TypeError, "a callable"),
]


@pytest.mark.parametrize(("key", "value", "error", "allowed"), WRONG)
def test_a_wrong_setting_is_named_and_not_shown(key, value, error, allowed):
    """The error has the key and what is allowed, but never the value."""
    with pytest.raises(error, match=allowed) as caught:
        SessionManager(**{"store": MemoryStore(), key: value})
    assert key in str(caught.value)
    assert "planted" not in str(caught.value)
    if error is TypeError and not isinstance(value, list):
        assert type(value).__name__ in str(caught.value)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("idle_timout", "idle_timeout"),
        ("key-prefix", "key_prefix"),
        ("cookies", "cookie"),
        ("max_sizes", "max_size"),
    ],
)
def test_an_unknown_setting_gets_the_nearest_name(key, nearest):
    """A misspelt key is named, with the one that was probably meant."""
    with pytest.raises(ValueError, match=f"'{key}'; did you mean '{nearest}'"):
        build(**{key: "planted"})


def test_an_unknown_setting_without_a_near_name_gets_all():
    """Where no name is near, all are listed."""
    with pytest.raises(ValueError, match=r"'xyz'; known: store, idle_timeout, .*clock"):
        build(xyz="planted")


def test_keys_may_be_bytes_or_their_base64_text():
    """Both spellings of a key give the same 32 bytes, padded or not."""
    raw = bytes(range(224, 256))
    text = base64.urlsafe_b64encode(raw).decode()
    for spelling in (raw, text, text.rstrip("=")):
        assert build(encryption_keys=[spelling]).encryption_keys == (raw,)


@pytest.mark.parametrize("secret", [None, ""])
@pytest.mark.parametrize("transport", ["cookie", "header:X-Session"])
def test_signed_needs_a_secret(secret, transport):
    """Signed ids without a secret are refused, whatever carries them."""
    app = Application(cookie_secret=secret)
    with pytest.raises(ValueError, match=r"signed=True needs .* cookie_secret"):
        SessionManager(app, store=MemoryStore(), signed=True, transport=transport)
    assert "session_manager" not in app.settings


def test_an_empty_secret_is_no_secret():
    """Cookies are not signed by an empty secret without a word."""
    with pytest.raises(ValueError, match="cookie_secret is empty"):
        SessionManager(Application(cookie_secret=""), store=MemoryStore())


@pytest.mark.parametrize("options", [{}, {"signed": False}, {"transport": "header:X"}])
@pytest.mark.parametrize("version", [{}, {"key_version": 9}])
def test_several_secrets_need_a_key_version(options, version):
    """A dict of secrets must say which of them signs."""
    app = Application(cookie_secret={1: "planted"}, **version)
    with pytest.raises(ValueError, match=r"needs the .* key_version") as caught:
        SessionManager(app, store=MemoryStore(), **options)
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("secret", [5, ["planted"], {1: 5}])
def test_a_secret_must_be_text(secret):
    """A secret of a wrong type is named, and not shown."""
    app = Application(cookie_secret=secret, key_version=1)
    with pytest.raises(TypeError, match="cookie_secret must be text") as caught:
        SessionManager(app, store=MemoryStore())
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("settings", ["planted", 5, ["store"]])
def test_the_applications_setting_must_be_a_dict(settings):
    """``Application(session=…)`` of a wrong type is named."""
    with pytest.raises(TypeError, match="'session' must be a dict"):
        SessionManager(Application(session=settings))


class Forgetful:
    def dumps(self, value):
        return b""

    def loads(self, data):
        return {}


class Textual(Forgetful):
    def dumps(self, value):
        return "text"


@pytest.mark.parametrize(
    ("serializer", "error", "message"),
    [
        (Forgetful(), ValueError, "serializer.loads must return what dumps"),
        (Textual(), TypeError, "what serializer.dumps returns must be bytes"),
    ],
)
def test_a_serializer_is_tried_out(serializer, error, message):
    """One that loses data, or makes text, is refused when the manager is built."""
    with pytest.raises(error, match=message):
        SessionManager(store=MemoryStore(), serializer=serializer)


def test_a_configuration_shows_neither_store_nor_keys():
    """The repr has no password of a URL and no key."""
    shown = repr(build(store="memcached://u:planted@h", encryption_keys=[b"p" * 32]))
    assert "planted" not in shown
    assert "pppp" not in shown
