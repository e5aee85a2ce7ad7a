"""MAKING CERTIFICATES: a private authority in a folder. Stands apart: it knows nothing of the balancer.

Modules
-------
    authority    the door: create, open, issue, sign, renew, revoke, crl
    hierarchy    root and intermediate: made, renewed, asked to sign
    issue        what is written into a certificate
    requests     certificate signing requests, of ours and of others
    renewal      which certificates are due, and what the new ones take over
    revoke       which certificates are meant, and whether they can be taken or given back
    lists        the lists of revoked ones
    constraints  the names that an authority is limited to
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
    passphrase   where the passphrase of an authority's keys comes from, and a new one
    settings     ca.toml
    index        the journal of what has been issued and revoked
    store        the folder, and files that are written whole or not at all
    outcome      what the authority answers
    dates        dates and spans of time as they are typed
    words        what a user chooses from, and the defaults
"""
