"""The compiled data plane: an event loop that relays bytes between clients and servers without the GIL.

It knows nothing of configuration, pools or policy; ``hooks`` is all it sees of the layers above. Reading order: loop,
transport, plain, tls, relay, session; then openssl and callbacks for the handshake.
"""
