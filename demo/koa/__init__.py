"""A site on koa that moves to Tornado page by page."""
