"""Persons: receipts of erasures, place by place, and exports of rows."""
