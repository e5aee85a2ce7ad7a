"""What the operator asked for: read from one TOML file, checked as a whole, frozen.

    option     one description per option: type, default, unit, range, help; schema, sample and reference come from it
    model      the tables and keys of the file, as frozen pydantic models
    position   where each key and value stands in the file
    load       file -> model, with a finding for everything that is wrong in it
    explain    what pydantic says, in the words of the file
    check      what no single key can say: references, clashes, missing parts
    render     the model written out: TOML, sample file, JSON Schema, option reference
    finding    one remark about the file, printed the way compilers print

Nothing here opens any file but the configuration itself, and nothing knows sockets, keys or the engine.
"""
