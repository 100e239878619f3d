"""Receipts of erasures, place by place."""
