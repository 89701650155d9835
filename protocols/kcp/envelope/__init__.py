"""The envelope of KCP datagrams, between the engine and the socket; importing it imports nothing."""
