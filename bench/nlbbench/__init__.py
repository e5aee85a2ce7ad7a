"""nlbbench: what `nlb bench` runs. This is the map; the method is in `bench/README.md`.

    spec        THE CONTRACT: what to run and what came out, frozen, with a JSON round trip; imports nothing of ours
    scenarios   the named kinds of load (handshakes, resumed, download, storm, ...), each with the populations of a `Load`
    load        run(load) -> Outcome: starts the generator's processes, calls the hooks, adds up what they counted
    shares      what each of these processes does of a load
    process     one of them, from its orders to its end
    client      what it starts from: address, TLS context, the roots to verify with, limits; everything cold
    generator   its compiled loop: events, schedule, phases; no Python, no GIL
    exchange    what a connection does: dial, handshake, send, compare, end
    plan        populations and connections: the pieces, what is due, what is counted
    wire        a socket with or without TLS, and what went wrong as a Fault
    client_ssl  functions of OpenSSL beside the engine's table; hist: counts laid out as HdrHistogram does
    pattern     the bytes that are sent and expected: their place in the stream can be told from any few of them
    board       the memory that processes and parent share: moments, counters, histograms, described failures
    outcome     failures in words, what the processes of the generator cost
    histogram   the HdrHistogram of latencies: merging, percentiles, encoding
    backends    servers of our own behind what is measured: echo, source, sink, slow; each a process
    backend     their compiled loop
    material    the certificates of a comparison
    proxies     what is known of nlb, HAProxy, nginx, Hitch, stunnel: how each is told to do the same work
    peers       one of them under a name: started, checked, reloaded, stopped; or running already
    guard       ends the processes of a proxy with the harness, however that ends
    accounting  CPU time and memory of a tree of processes, from the kernel
    trials      what is compared: the loads, the figures that they give, and what each cannot be better than
    apart       processors for the proxies, and others for the rest
    stage       certificates, servers and proxies of a comparison, started when they are needed
    measure     one sample: a load on a proxy, and what the proxy used meanwhile
    floor       the limit: the same handshakes and bytes through OpenSSL in memory
    compare     all samples in turn, interleaved, until the end or Ctrl-C
    results     THE REPORT: every sample, who was measured, on what machine; JSON there and back
    figures     the sums: medians, spread, ratios within a repetition, multiples of the limit
    words       how figures are written
    table       the report on a terminal
    charts      its charts (matplotlib), page: as one HTML page (jinja2); both are extras
    output      the files of a report; bar: the progress bar

A load is one or several *populations*, which run side by side: echo messages beside a storm of handshakes is two. A
population makes *exchanges*, of one kind (`Work`); every one of them ends as done or as failed, with its kind of
failure, and none is left out. In the open model an exchange has a planned start, and its latency counts from there
whether or not the generator or the server was ready then; in the closed model each connection begins the next one when
the last is over.

nlbbench may use nlbcore's errors, its certificate authority and the engine's tables; nothing but `nlbcli.bench` imports nlbbench.
"""
