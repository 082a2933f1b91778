"""What only a real browser can show: cookies, sites, history, pages with scripts."""
