"""One end of one test: the client, the server and its tests, and the steps that both share."""
