"""What `slipstream demo` does and says: real film ratings through the whole of Slipstream, and one
click that changes a list.
"""
