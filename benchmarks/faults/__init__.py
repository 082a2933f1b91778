"""What users and operators see of each fault: injected, measured, and tabled.

`catalogue` has the faults. For each one a `stage` starts servers and `site` in
a process of its own, `users` work on it, and `judge` holds what they are told
against what they were told before. `report` makes a row of it.
"""
