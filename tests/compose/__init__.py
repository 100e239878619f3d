"""`make compose-demo`: docker-compose.yml run for real, from nothing, with the demo on it, its
containers killed, and scaled out.
"""
