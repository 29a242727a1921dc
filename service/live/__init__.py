"""The policy of live connections: which frames are analysed, what is told of each, and when a connection ends."""
