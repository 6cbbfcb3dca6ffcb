# Long forms of what `make test` runs short. Each prints its figures and fails where one is bad.
#
#   make chaos  CHAOS_SECONDS=120 CHAOS_CLIENTS=300 CHAOS_SEED=
#   make soak   SOAK_SECONDS=300 SOAK_RATE=40
#   make fuzz   FUZZ_SECONDS=60 FUZZ_CORPUS=directory FUZZ_TARGETS="decoder evidence"

.PHONY: chaos soak fuzz

chaos: $(STAMP)
	$(BIN)/python -m tests.chaos storm

soak: $(STAMP)
	$(BIN)/python -m tests.chaos soak

fuzz: $(STAMP)
	@$(BIN)/python -c "import atheris" 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check "atheris>=3"
	$(BIN)/python -m tests.fuzz $(FUZZ_TARGETS)

export CHAOS_SECONDS CHAOS_CLIENTS CHAOS_SEED SOAK_SECONDS SOAK_RATE FUZZ_SECONDS FUZZ_CORPUS
