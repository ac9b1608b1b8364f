"""A round of somebody else's federation through any rule: state dicts or arrays in, the same out."""
