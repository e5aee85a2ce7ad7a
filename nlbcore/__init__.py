"""nlb: a network load balancer that ends mutual TLS and relays the decrypted bytes as plain TCP. This is the map.

Layers
------
Imports go down only; `ci/check_layers.py` holds the exact table and fails the build.

    nlbcli       the command line: one file per command, no logic            (cli/nlbcli)
    process      WHO RUNS: supervisor, reload, fleet (the workers), worker, checker, the attendants, channel
    admin        WHAT OTHERS SEE BY HTTP: metrics, health, JSON, the status page
    control      TALKING TO A RUNNING BALANCER: the frames, the supervisor's server, what it answers, the client
    observe      WHAT HAPPENED: access log, event log, metrics (the table), live connections
    tls          POLICY IN, CONTEXT OUT: policies, certificates and keys, apply(front, snapshot), identity; no sockets
    pool         WHO GETS THE CONNECTION: schedulers, health (the judge of the checks)
    engine       THE COMPILED DATA PLANE: loop, timers, slab, listener, dialer, transports, relay, session;
                 it sees the floor only and calls up through `engine.hooks`
    config       WHAT THE OPERATOR ASKED FOR: model, load, findings; pure and frozen
    floor        errors, address, proxy_protocol, unixsocket, dn, termination, segment, facts
    pki          MAKING CERTIFICATES: stands apart, sees nothing but errors and dn

The processes
-------------
    supervisor   one thread; holds configuration, keys, every listening socket, the segment, the blank front contexts
      |- worker 0..N-1   forked: the data plane, one thread, one event loop each
      |- log writer      exec'd: drains every worker's log ring
      |- prober          exec'd: health checks, the only writer of verdicts on servers
      |- admin           exec'd: HTTP; reads the segment and the facts
      |- watcher         exec'd: tells when files have changed
      `- checker         forked, short lived: reads and judges the configuration, seals generation N

Only supervisor, workers and checker hold keys; what is exec'd gets descriptors and nothing else. Any worker may serve any
slot, so a slot whose worker has died is served by its siblings until it has one again (`process/fleet`).

The way of a byte
-----------------
    kernel -readable-> engine/loop -slot-> engine/session (RELAY) -> engine/tls (ciphertext in, plaintext out)
           -> engine/relay (write now? stop reading? half-close?) -> engine/plain (send) -> kernel

No Python object, no lock and no allocation on it, but for an overflow buffer under back-pressure.
Python runs once per 4 connections, to make TLS objects on a listener's front context (the nursery); choosing a server
(`pool/schedulers`) is a C function, and the end of a connection is a record in the worker's log ring, which the log
writer makes a line of. The server is dialled only after the client's certificate has been accepted: in TLS 1.3 the
client believes it is connected before the server has looked at its certificate.

The way of a reload
-------------------
    SIGHUP, `nlb reload`, the watcher -> process/reloads (one after the other) -> process/reload
    check     config/load -> config/check -> tls/material, all in process/checker (the rehearsal): generation N + 1, sealed
    prepare   process/sockets (new addresses) -> process/rollout PREPARE -> process/preparation, in steps beside the loop
    commit    process/rollout COMMIT -> worker: apply(front, snapshot), engine.succeed(); live connections are looked at
              again (engine/trust) -> attendants get new orders -> the answer
    refused   what was prepared is dropped, generation N stays, the answer says why

A worker is a function of snapshots: numbered, immutable generations of configuration and material, so that nothing
a snapshot holds ever needs a new process. Live connections keep the generation that they began with.

Glossary
--------
    listener       addresses, a protocol (TCPSSL or TCP) and rules about who may connect
    session        one accepted connection with its server connection, from accept to the line in the log
    transport      one side of a session, plain or TLS, with the same operations
    relay          the pump between the two transports of a session, with bounded memory
    server group   the servers that a listener may choose from; the scheduler chooses
    slot           a worker's place: its listening sockets, its block in the segment; outlives the worker
    adoption       a slot without a worker is served by its siblings
    verdict        what the prober says of a server: Initial, Available, Unhealthy, Unavailable, Draining
    generation     a numbered snapshot; every session names the one it began with
    front context  the TLS context a connection is made on; it lives as long as the listener, so tickets stay valid
    material       the certificates and keys that the configuration names, read and checked
    termination    the one word that says why a connection ended; the same in log, metrics and tests
    segment        shared memory: one block per slot (counters, gauges, log ring), and what all look at (verdicts)
    facts          what the supervisor publishes: names, workers, certificates, the last reload; only it can write them
    attendant      a helper process of the supervisor, started with exec: log writer, prober, admin, watcher
"""

__version__ = "0.1.0"
