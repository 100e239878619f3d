"""The five services, and the command that starts them."""
