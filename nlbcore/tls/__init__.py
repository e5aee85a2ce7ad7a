"""Policy in, context out: no sockets here.

- `policy`: the built-in security policies, and what the OpenSSL in use can do of them
- `material`: the certificates and keys that the configuration names, read and checked
- `pem`: PEM files taken apart
- `x509rules`: what can be said about a certificate without a connection
- `context`: apply(front, snapshot): a listener's settings on a TLS context
- `rules`, `ruletable`: what `allow` and `deny` mean, and the table that the engine looks into
- `explain`: what a listener would say of a client certificate, asked of its own code
- `trusted`: what it would take from a folder of CAs or lists
- `identity`: who a client certificate says its owner is
"""
