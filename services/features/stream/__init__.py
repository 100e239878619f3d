"""The live stream: events fold into the online store and the lake."""
