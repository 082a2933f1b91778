"""What users and operators see of each fault, by injecting it."""
