"""Services killed and started again, one at a time: each must read again by itself, also where
joining its group takes long.
"""
