"""WebRTC: WHIP, WHEP and SRS's JSON API for the signalling, media over UDP and TCP."""
