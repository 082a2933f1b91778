"""What comes from outside, as bytes: whatever they are, the answer is a known one."""
