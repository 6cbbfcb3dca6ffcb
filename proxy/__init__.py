"""discreet: a reverse proxy that keeps an LLM provider's failures discreet.

The words, each for one thing:

upstream    the provider's server that requests are forwarded to
client      whoever sends the requests
surface     one API: Responses, Chat Completions, legacy completions, Messages, or other
event       one server-sent event; an event stream is a sequence of them
failure     what the proxy itself sees go wrong; an error is what a provider says
evidence    reading an error of any shape into an `UpstreamError`
reply       what a client reads instead; every word of it is declared in the table
rule        when a reply is given
table       replies and rules: `mappings.yaml`
gate        the short time in which an early error can still become an HTTP status
ledger      the errors of one exchange, each with its reply
incident    one such error
reference   what joins a client's reply to the operator's log
"""
