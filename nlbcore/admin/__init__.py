"""The admin process's HTTP: metrics, health, JSON and the status page. It only reads; nothing can be changed through it.

`app` says what stands at which path, `guard` which requests are let in and what headers all answers have, `health` whether
the balancer lives and is ready, `live` asks for the live connections, `stream` tells the status once a second to everybody
who listens, `page` knows how a browser may show the status page.
"""
