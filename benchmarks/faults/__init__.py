"""What users and operators see of each fault, by injecting it.

`catalogue` has the faults, `stage` plays one of them on a real site, and `page` puts
the figures into the page for operators. The site and its users are those of
`benchmarks.soak`.
"""
