"""What users and operators see of each fault, by injecting it.

`catalogue` has the faults, `stage` plays one of them on a real site, and `page` makes
a page for operators of what was seen. The site and its users are those of
`benchmarks.soak`.
"""
