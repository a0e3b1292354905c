# SPDX-License-Identifier: Apache-2.0
#
# The front door; meson and ninja do the work. Every kind of build has a folder of its own under build/.

SEED ?= 1
SEEDS ?= 1000
SECONDS_EACH ?= 60

.PHONY: all check demo asan tsan valgrind fuzz sim bench bench-cluster soak format tidy hooks clean

all: build/release/build.ninja
	ninja -C build/release

build/release/build.ninja:
	meson setup build/release

# Everything that is checked automatically: builds, tests, sanitizers, house rules.
check:
	tools/install-deps
	tools/check

demo:
	tools/install-deps
	$(MAKE) all
	tools/demo

# One stage of `make check`, with its own build.
asan tsan valgrind:
	tools/check --only $@

# Coverage-guided, SECONDS_EACH seconds a fuzzer; what it finds of interest stays in build/fuzz/corpus.
fuzz:
	tools/fuzz $(SECONDS_EACH)

# One seed, told in full; a failing seed replays exactly.
sim: all
	build/release/sim/izar-sim --seed $(SEED)

# Seeds without end in mind: SEEDS of them from SEED on, stops at the first that fails; then real crashes.
soak: all
	tools/soak $(SEED) $(SEEDS)

bench: all
	tools/install-deps bench
	tools/bench

# Two nodes and a witness on this machine, against one node and against Ceph.
bench-cluster: all
	tools/install-deps
	tools/bench-cluster

format:
	tools/format

tidy:
	python3 tools/tidy.py .

# Format and house rules before each commit.
hooks:
	ln -sf ../../tools/hooks/pre-commit .git/hooks/pre-commit

clean:
	rm -rf build
