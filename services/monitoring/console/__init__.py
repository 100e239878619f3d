"""What the console needs of monitoring: sessions, the flow of records, a stream of what passes."""
