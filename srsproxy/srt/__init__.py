"""SRT (draft-sharabayko-srt): callers that publish or play, led to their origin by stream id."""
