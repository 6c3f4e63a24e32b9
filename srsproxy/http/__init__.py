"""HTTP: streams, playlists and files of the origins."""
