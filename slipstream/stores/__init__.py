"""Where state is kept: online (Redis), lake (Delta), and metadata (SQLAlchemy). The only home of
these clients.
"""
