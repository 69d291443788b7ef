"""The OpenAI HTTP API as values: requests in, responses, chunks and errors out.

Does: parses and bounds untrusted request bodies; builds response bodies and server-sent events.
Zone: outer
Trusts: nothing in a request body; ids, timestamps and token counts are handed in by the caller.
If owned: can misstate answers and usage to users of this outer half; holds no keys or weights.
"""
