"""The page that is sent where a session could not be saved."""

from __future__ import annotations

__all__ = ["default_page"]

_PAGE = "<!doctype html><title>{title}</title><h1>{title}</h1><p>{text}</p>"


def default_page(error: Exception) -> str:
    """Return the page for ``error``, in HTML; it tells nothing of the cause."""
    if getattr(error, "operation", "") in ("delete", "destroy"):
        return _PAGE.format(
            title="Not confirmed",
            text="This browser is logged out, but that could not be confirmed "
            "everywhere.",
        )
    again = getattr(error, "retry_after", None) is not None
    return _PAGE.format(
        title="Session not saved",
        text="Your changes could not be saved."
        + (" Please try again in a moment." if again else ""),
    )
