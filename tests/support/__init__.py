"""What the tests run against: real servers, a faulty network, a browser, a clock."""
