"""MAKING CERTIFICATES: a private authority in a folder. Stands apart: it knows nothing of the balancer.

Modules
-------
    authority    the door: create, open, issue, revoke, crl
    issue        what is written into a certificate
    revoke       which certificate is meant, and the lists of revoked ones
    pkcs12       the bundle for browsers and keychains
    bundle       PEM files for other programs: leaf, chain, fullchain, HAProxy's
    contents     what is in a file, whoever has written it
    inspect      what a certificate says, in words
    verify       whether a certificate would be accepted, and why not
    defects      what is wrong with one certificate, request or list
    doctor       what is wrong with files: how their parts fit, keys, what lies beside
    der          BER and DER, as far as PKCS#12 needs them
    names        subjects and alternative names
    keys         private keys
    settings     ca.toml
    index        the journal of what has been issued and revoked
    store        the folder, and files that are written whole or not at all
    words        what a user chooses from, and the defaults
"""
